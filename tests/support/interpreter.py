"""Triton's interpreter under numpy 2.4 and newer, which no longer turn an array of one element into an int; and its scans by
slices rather than by single elements, which take minutes.
"""

import numpy as np
from triton.runtime import interpreter


def repair():
    """Lets scalars of the interpreter bound loops again; call it once, before the first kernel runs."""
    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched
    interpreter.ScanOps.generic_scan = scan


def scan(self, given):
    """One slice along the axis after the other, combined whole."""
    slices = [np.moveaxis(part.handle.data, self.axis, 0) for part in given]
    states = [[part[0]] for part in slices]
    for number in range(1, len(slices[0])):
        before = [self.to_tensor(found[-1], part.dtype) for found, part in zip(states, given, strict=True)]
        here = [self.to_tensor(part[number], one.dtype) for part, one in zip(slices, given, strict=True)]
        made = self.combine_fn.fn(*before, *here)
        for found, one in zip(states, made if isinstance(made, tuple) else (made,), strict=True):
            found.append(one.handle.data)
    return [
        self.to_tensor(np.moveaxis(np.stack(found), 0, self.axis), part.dtype)
        for found, part in zip(states, given, strict=True)
    ]
