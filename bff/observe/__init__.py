"""What the program tells its operators: logs, audit trail, metrics, access log, trace context."""
