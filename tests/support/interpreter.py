"""Triton's interpreter under numpy 2.4 and newer, which no longer turn an array of one element into an int."""

from triton.runtime import interpreter


def repair():
    """Lets scalars of the interpreter bound loops again; call it once, before the first kernel runs."""
    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched
