"""Triton's interpreter with the installed numpy, which makes no Python number of an array of one element."""


def mend_interpreter():
    """Lets loop bounds be values that a kernel loaded; call before the first kernel runs."""
    from triton.runtime import interpreter

    original = interpreter._patch_lang_tensor
    if getattr(original, "mended", False):
        return

    def patched(tensor, scope):
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    patched.mended = True
    interpreter._patch_lang_tensor = patched
