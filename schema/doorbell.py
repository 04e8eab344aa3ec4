"""What rings workers, from an API as from a worker: the message's name, and how briefly a broker is waited for."""

from collections.abc import Mapping

TASK = "workers.work"
_SOCKET_S = 1.0

SENDING: Mapping[str, object] = {
    "task_ignore_result": True,
    "broker_connection_timeout": _SOCKET_S,
    "broker_connection_retry": False,
    "broker_pool_limit": 2,
    "broker_transport_options": {
        "socket_timeout": _SOCKET_S,
        "socket_connect_timeout": _SOCKET_S,
        "retry_on_timeout": False,
        "max_retries": 0,
    },
}
"""Settings of Celery for whoever only sends: a broker that is away costs a second, and no retry."""
