"""How flowkit makes its records: attrs classes with fields that are not assigned to, compared and shown by them.

attrs writes and compiles `__eq__`, `__hash__` and `__repr__` anew for each class, a quarter of a millisecond in all;
some eighty classes would make that a fifth of the time that `import flowkit` may take. So they are written once, here
(docs/decisions/0007-records.md).
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from attrs import define, fields

if TYPE_CHECKING:
    from attrs import frozen
    from attrs import frozen as hot_record
else:

    @cache
    def _compared(cls: type) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls) if field.eq)

    def _equal(self: object, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _compared(self.__class__))

    def _hashed(self: object) -> int:
        return hash((self.__class__, *(getattr(self, name) for name in _compared(self.__class__))))

    def _shown(self: object) -> str:
        parts = []
        for field in fields(self.__class__):
            if field.repr:
                show = repr if field.repr is True else field.repr
                parts.append(f"{field.name}={show(getattr(self, field.name))}")
        return f"{self.__class__.__qualname__.rsplit('>.', 1)[-1]}({', '.join(parts)})"

    def _record(cls: type, *, frozen: bool) -> type:
        made = define(cls, frozen=frozen, eq=False, repr=False)
        made.__eq__, made.__hash__, made.__repr__ = _equal, _hashed, _shown
        return made

    frozen = partial(_record, frozen=True)
    hot_record = partial(_record, frozen=False)  # without the price of assigning to a frozen one, some 2 µs each

__all__ = ["frozen", "hot_record"]
