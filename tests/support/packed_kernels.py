"""The Triton kernels of packed values as they are launched for bf16 rows of 4096: types, constexprs, and what they use."""

from offline import compiled

TYPES = {
    "cu_seqlens": "*i32", "weights": "*fp32", "grad_weights": "*fp32", "lse": "*fp32", "partial": "*fp32",
    "partial_norms": "*fp32", "best_rows": "*i32", "partial_rows": "*i32", "only_rows": "*i32", "source": "*i64",
    "target": "*i64", "bounds": "*i32", "crossings": "*i64", "counts": "*i64", "flags": "*u8", "position_ids": "*i64", "labels": "*i64",
    "states": "*fp32", "left": "*fp32", "shares": "*fp32", "cos": "*fp32", "sin": "*fp32", "losses": "*fp32", "norms": "*fp32", "scale": "*fp32",
}  # fmt: skip
VALUES = ("values", "out", "grad", "grad_values", "q", "k", "q_out", "k_out", "logits", "grad_logits")
FLOATS = ("softcap",)


def resources(kernel, constexprs, num_warps):
    """What ``kernel`` uses of Hopper, with arguments typed by their names; strides and columns are divisible by 16."""
    signature = {
        parameter.name: "*bf16" if parameter.name in VALUES
        else "fp32" if parameter.name in FLOATS
        else TYPES.get(parameter.name, "i32")
        for parameter in kernel.params
        if not parameter.is_constexpr
    }  # fmt: skip
    aligned = [
        name
        for name, kind in signature.items()
        if kind.startswith("*") or name in ("columns", "width", "half") or name.endswith("stride")
    ]
    return compiled(kernel, signature, constexprs, num_warps, aligned=aligned)
