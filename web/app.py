"""The application factory: blueprints and error handlers, nothing else."""

from __future__ import annotations

from flask import Flask

from tasks import access, pressure, vault
from tasks.providers import catalogue
from tasks.settings import Settings, settings
from web import api, dashboard, errors, health, metrics, openapi, relay, stats, webhooks
from web.waiting import Front


def create_app(config: Settings | None = None) -> Flask:
    """Build the front.

    Raises:
        SettingsError: something is missing, or Redis is not to be trusted; better now than at the first request.
    """
    config = config or settings()
    vault.build(config)
    pressure.check_at_start()
    app = Flask("llm-proxy", static_folder=None)
    app.url_map.merge_slashes = False
    app.extensions["settings"] = config
    app.extensions["providers"] = catalogue.build(config)
    app.extensions["tokens"] = access.tokens(config)
    app.extensions["front"] = Front(config)
    errors.register(app)
    for module in (stats, metrics, dashboard, health, webhooks, openapi):
        app.register_blueprint(module.bp)
    api.register(app)
    relay.register(app)
    return app
