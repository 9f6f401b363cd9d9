"""The management listener: health, readiness, metrics and session administration, apart from the public port."""

from bff.manage.app import build_management
from bff.manage.readiness import Readiness

__all__ = ["Readiness", "build_management"]
