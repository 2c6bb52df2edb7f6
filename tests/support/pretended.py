"""A pretended GPU: tensors that say cuda:0, compute on the CPU, and count what a GPU would launch and wait for.

A tensor of it is a wrapper around one of the CPU. To Python it is on cuda:0, so this package takes the way that it
takes on a GPU; to torch's own C++ code it is on the CPU, so autograd needs no CUDA, and a test no compiler. What this
cannot show: the kernels of CUDA, cuDNN and NCCL, mixed precision, torch.compile, and time.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import sam_bench

GPU = torch.device("cuda", 0)
PACKAGE = str(Path(sam_bench.__file__).parent)

# Operations that only make a tensor or look at one in another way; views say so themselves.
FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "_reshape_alias"}
# Operations of several kernels, by reading torch's sources; all others count one.
KERNELS = {
    "convolution_backward": 2, "native_layer_norm_backward": 2, "cumsum": 2, "sort": 3, "argsort": 3, "nonzero": 3,
    "repeat_interleave": 3, "index_put_": 3, "index_put": 3, "_index_put_impl_": 3, "embedding_dense_backward": 4,
    "_foreach_norm": 2, "multinomial": 6, "topk": 2, "_unique2": 4,
}  # fmt: skip
# How many tensors one launch of a _foreach_ operation takes, by the number of lists that it reads and writes.
TOGETHER = {1: 110, 2: 64, 3: 48, 4: 36}
# Operations whose result the host has to see before it goes on, and how often it waits.
WAITS = {"_local_scalar_dense": 1, "nonzero": 1, "masked_select": 1, "_unique2": 1, "equal": 1, "multinomial": 2}
# Operations that take some tensors of the CPU beside those of the GPU.
# Their second result, how many rows each step in time has, is one of the CPU, too.
MIXED = {"_pack_padded_sequence", "_pad_packed_sequence"}


class Counts:
    """How often what was asked of the GPU; each counter has the line of sam_bench that asked as its key."""

    def __init__(self):
        self.launches, self.waits, self.copies = Counter(), Counter(), Counter()

    def clear(self) -> None:
        for counter in (self.launches, self.waits, self.copies):
            counter.clear()


def line() -> str:
    """The innermost line of sam_bench that is being executed."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            return f"{name[len(PACKAGE) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


class OnGpu(torch.Tensor):
    """A tensor of the pretended GPU; `held` is where its numbers are."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype
        )
        made.held = held
        return made

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    def data_ptr(self):
        return self.held.data_ptr()

    def __repr__(self, **_):
        return f"OnGpu({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of the pretended GPU")


def put(out):
    """`out` with its tensors on the GPU."""
    return tree_map(lambda x: OnGpu(x) if isinstance(x, torch.Tensor) and not isinstance(x, OnGpu) else x, out)


def held(arguments):
    """`arguments` with the tensors of the CPU that they hold."""
    return tree_map(lambda x: x.held if isinstance(x, OnGpu) else x, arguments)


class Kernels(TorchDispatchMode):
    """Every operation as torch hands it to a device. `placing`: new tensors belong to the GPU."""

    def __init__(self, counts: Counts):
        super().__init__()
        self.counts, self.placing = counts, False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func._schema.name.removeprefix("aten::")
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        on_gpu = [x for x in tensors if isinstance(x, OnGpu)]
        device = kwargs.get("device")
        asked = device is not None and device.type == "cuda"
        if asked:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        if not on_gpu:
            out = func(*args, **kwargs)
            if tensors and asked:
                self.copied(kwargs.get("non_blocking"))
            elif asked or (self.placing and device is not None and not tensors):  # as C++ makes one like another
                self._count(func, name, args, kwargs)
            else:
                return out
            return put(out)
        if name in ("copy_", "_to_copy") and len(on_gpu) < len(tensors):
            self.copied(non_blocking=kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        else:
            self._refuse_mixed(name, args, tensors)
            self._count(func, name, args, kwargs)
        out = func(*held(args), **held(kwargs))
        if written := self._written(func, args, kwargs):
            return written[0] if len(written) == 1 else tuple(written)
        if name in MIXED:
            return put(out[0]), out[1]
        return put(out)

    @staticmethod
    def _written(func, args, kwargs):
        """The arguments that the operation gives back, changed in place."""
        schema = func._schema
        if not any(r.alias_info is not None and r.alias_info.is_write for r in schema.returns):
            return []
        given = dict(zip((a.name for a in schema.arguments), args, strict=False)) | kwargs
        return [given[a.name] for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]

    def copied(self, non_blocking) -> None:
        """A copy between CPU and GPU, for which the host waits unless told otherwise."""
        here = line()
        self.counts.copies[here] += 1
        if not non_blocking:
            self.counts.waits[f"{here} copy"] += 1

    def _refuse_mixed(self, name: str, args, tensors) -> None:
        others = [x for x in tensors if not isinstance(x, OnGpu)]
        if name in ("index", "index_put", "index_put_", "_index_put_impl_") and isinstance(args[0], OnGpu):
            for index in args[1]:
                if index is not None and not isinstance(index, OnGpu):  # also a Python list
                    self.copied(non_blocking=False)
                elif index is not None and index.dtype in (torch.bool, torch.uint8):
                    self.counts.waits[f"{line()} {name} by a mask"] += 1
            others = others[:0]
        scalars_too = name in ("cat", "stack")
        if name not in MIXED and any(x.dim() or scalars_too for x in others):
            raise RuntimeError(f"Expected all tensors to be on the same device: {name} at {line()}")

    def _count(self, func, name: str, args, kwargs) -> None:
        here = line()
        if name in WAITS:
            self.counts.waits[f"{here} {name}"] += WAITS[name]
        elif name == "repeat_interleave" and func._overloadname == "Tensor":
            self.counts.waits[f"{here} {name}"] += kwargs.get("output_size") is None
        if name.startswith("_foreach_"):
            self.counts.launches[f"{here} {name}"] += foreach_launches(name, args)
        elif name not in FREE and not func.is_view:
            self.counts.launches[f"{here} {name}"] += KERNELS.get(name, 1)


def foreach_launches(name: str, args) -> int:
    """Launches of one _foreach_ operation: few where its lists are alike, else one for each tensor."""
    lists = [x for x in args if isinstance(x, list | tuple) and x and isinstance(x[0], torch.Tensor)]
    first, forms = lists[0], [[(x.shape, x.stride(), x.dtype) for x in some] for some in lists]
    if any(form != forms[0] for form in forms) or len({x.dtype for x in first}) > 1:
        return len(first)
    depth = len(lists) + (not name.endswith("_"))
    return -(-len(first) // TOGETHER.get(depth, 30)) * KERNELS.get(name, 1)


MOVES = {torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda, torch.Tensor.tolist, torch.Tensor.numpy}
MAKES = {torch.tensor, torch.as_tensor}


class Calls(TorchFunctionMode):
    """Every call of torch by Python: where its result belongs, which the operations inside it do not say."""

    def __init__(self, kernels: Kernels):
        super().__init__()
        self.kernels = kernels

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        kwargs.pop("pin_memory", None)
        if func is torch.Tensor.pin_memory:
            return args[0].clone()
        if func in MOVES:
            return self._move(func, args, kwargs)
        if func is torch.Tensor.backward:
            return self._backward(*args, **kwargs)
        device = kwargs.get("device")
        if func in MAKES and device is not None and torch.device(device).type == "cuda":
            del kwargs["device"]
            if isinstance(args[0], torch.Tensor):
                return self._move(torch.Tensor.to, (args[0], device), kwargs)
            return self._upload(func(*args, **kwargs), non_blocking=False)
        with self._placing(self.kernels.placing or any(isinstance(x, OnGpu) for x in tree_leaves((args, kwargs)))):
            return func(*args, **kwargs)

    @contextmanager
    def _placing(self, placing: bool) -> Iterator[None]:
        before, self.kernels.placing = self.kernels.placing, placing
        try:
            yield
        finally:
            self.kernels.placing = before

    def _backward(self, x, gradient=None, **kwargs):
        """`x.backward()`, with this mode on: a backward pass may run Python of sam_bench."""
        with self, self._placing(isinstance(x, OnGpu)):
            torch.autograd.backward(x, gradient, **kwargs)

    def _move(self, func, args, kwargs):
        x = args[0]
        if func in (torch.Tensor.tolist, torch.Tensor.numpy):
            if isinstance(x, OnGpu):
                if func is torch.Tensor.numpy:
                    raise TypeError("can't convert cuda:0 device type tensor to numpy")
                self.kernels.copied(non_blocking=False)
            return func(held(x), *args[1:], **kwargs)
        if func is not torch.Tensor.to:
            args = (x, "cpu" if func is torch.Tensor.cpu else GPU, *args[1:])
        copy = kwargs.pop("copy", False)
        if len(args) > 1 and isinstance(args[1], torch.Tensor):
            args = (x, args[1].device, args[1].dtype, *args[2:])
        device, dtype, non_blocking, form = torch._C._nn._parse_to(*args[1:], **kwargs)
        to_gpu = isinstance(x, OnGpu) if device is None else device.type == "cuda"
        if to_gpu == isinstance(x, OnGpu):
            return x.to(dtype=dtype or x.dtype, copy=copy, **({} if form is None else {"memory_format": form}))
        if to_gpu:
            return self._upload(x if dtype is None else x.to(dtype), non_blocking)
        self.kernels.copied(non_blocking=False)  # the host may not read before the copy has ended
        return x.held.clone() if dtype is None else x.held.to(dtype, copy=True)

    def _upload(self, x: torch.Tensor, non_blocking: bool) -> OnGpu:
        self.kernels.copied(non_blocking)
        return OnGpu(x.detach().clone())


class Generator(torch.Generator):
    """Draws on the CPU, and says that it is on the GPU."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls)
        made.device_asked_for = torch.device(device)
        return made

    def __init__(self, device="cpu"):
        pass

    device = property(lambda self: GPU if self.device_asked_for.type == "cuda" else self.device_asked_for)


@contextmanager
def gpu(monkeypatch) -> Iterator[Counts]:
    """Within it `torch.device("cuda", 0)` is the pretended GPU; what is asked of it is counted."""
    counts = Counts()
    kernels = Kernels(counts)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: counts.waits.update([f"{line()} synchronize"]))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
    # A module moved to another device gets new parameters; to torch's own code both devices are the CPU.
    monkeypatch.setattr(torch, "_has_compatible_shallow_copy_type", lambda *_: False)
    for module in (sys.modules["torch.optim.optimizer"], _foreach_utils):
        monkeypatch.setattr(module, "_foreach_supported_types", [torch.Tensor, OnGpu])
    with kernels, Calls(kernels):
        yield counts
