"""The files of shards: what the library reads back, and what a killed writer leaves."""

from __future__ import annotations

import os
import resource
import signal

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from saebench.atomic import is_temporary
from saebench.cache.shards import Shard, read_shard, size_bound, write_shard

SHARD = Shard("ab" * 32, 0, 4)
KINDS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8]


def tensors():
    draw = torch.Generator().manual_seed(0)
    found = {str(kind): (torch.randn(3, 5, generator=draw) * 9).to(kind) for kind in KINDS}
    odd = {"bool": torch.tensor([True, False, True]), "scalar": torch.tensor(7), "empty": torch.zeros(0, 3)}
    return found | odd | {"ü": torch.ones(1, dtype=torch.uint8)}


def test_the_library_reads_what_is_written(tmp_path):
    path, size = write_shard(tmp_path, SHARD, tensors())
    assert size == path.stat().st_size <= size_bound(SHARD, tensors())
    for read in (load_file(path), read_shard(path, SHARD)):
        assert read.keys() == tensors().keys()
        for name, tensor in tensors().items():
            assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(read[name], tensor)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_type_that_files_do_not_hold_leaves_nothing(tmp_path):
    with pytest.raises(SafetensorError, match="complex64"):
        write_shard(tmp_path, SHARD, {"x": torch.zeros(2, dtype=torch.complex64)})
    assert not list(tmp_path.iterdir())


def test_a_writer_that_is_killed_leaves_only_what_others_remove(tmp_path):
    pid = os.fork()
    if pid == 0:  # it is killed in the middle of its write, when the file grows too large
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        write_shard(tmp_path, SHARD, {"x": torch.zeros(10_000)})
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGXFSZ
    (left,) = tmp_path.iterdir()
    assert is_temporary(left.name)
