#!lua flags=allow-oom
-- ARGV: key prefix, name of a counter of /stats.
return redis.call('HINCRBY', ARGV[1] .. 'stats', ARGV[2], 1)
