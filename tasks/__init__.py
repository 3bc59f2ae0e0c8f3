"""The pipeline: what happens to a request between the caller's call and the caller's answer.

    web ─▶ accept ─▶ queue batch.<group> ─▶ collector ─▶ submission ─▶ polling ─▶ delivery ─▶ settle ─▶ results ─▶ web
                 └─▶ queue sync ─────────▶ sync ──────────────────────────────────────────────┘
                                           sweeper sets going again what stands still

`celery -A tasks` finds the app in `tasks/celery.py`. The front uses this package without Celery:
gunicorn must patch the standard library before anything heavy is imported.
"""

__version__ = "0.1.0"
