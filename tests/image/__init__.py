"""The Dockerfile's steps in a clean Debian tree, where there is no Docker engine: `make image`, see docs/deploy.md."""
