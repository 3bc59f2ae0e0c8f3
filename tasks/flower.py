"""The Celery app as Flower is given it: `celery -A tasks.flower flower`.

The same broker and the same tasks, but no result backend: a reply, which may quote its prompt, is the
result of its task, and Flower's API would show it to whoever may look at tasks.
"""

from __future__ import annotations

from celery import Celery

app = Celery("tasks", set_as_current=False)
app.config_from_object("celeryconfig")
app.conf.update(result_backend="disabled://")
app.set_default()  # in the place of the pipeline's own
