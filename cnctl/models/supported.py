"""Settings that a family of bases does not support."""

from __future__ import annotations

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.settings.declaration import Declared, declarations


def check_supported(settings: Declared, base: Base) -> None:
    """Raise CnctlError where a setting that the base's family does not support was changed."""
    for name, setting in declarations(type(settings)).items():
        why = base.family.unsupported.get(name)
        if why and getattr(settings, name) != setting.default:
            raise CnctlError(
                f"{setting.option} is not supported on {base.name} ({base.family.name}): {why}",
                hint=f"leave out {setting.option}",
            )
