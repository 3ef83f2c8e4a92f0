"""Makes the small files by which gabor's reader of PyTorch's weights is tested.

Each is what torch.save writes of the same few tensors: as a zip file, in the format before 1.6, and inside
of a checkpoint; and one of a pickle that would run a command if it were read as Python reads it.

Run, from any folder, with the packages timm and torch:

    venv/bin/python tests/pytorch/make_weights.py
"""

import os
from collections import OrderedDict
from pathlib import Path

import torch
from timm.layers import resample_abs_pos_embed

FOLDER = Path(__file__).parent / "weights"


class Command:
    def __reduce__(self):
        return os.system, ("touch gabor-ran-this",)


def state():
    counts = torch.arange(24, dtype=torch.float32)
    return OrderedDict(
        {
            "plain": counts[:6].reshape(2, 3),
            "transposed": counts[:6].reshape(2, 3).T,
            "part": counts.reshape(4, 6)[1:3, 2:5],
            "half": counts[:3].half() / 4,
            "brain": counts[:3].bfloat16() / 4,
            "double": counts[:3].double() / 3,
            "parameter": torch.nn.Parameter(torch.tensor([1.5, -2.5])),
            "scalar": torch.tensor(7.0),
            "bn.num_batches_tracked": torch.tensor(12),
        }
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    torch.save(state(), FOLDER / "zip.pth")
    torch.save(state(), FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    wrapped = {f"module.{name}": tensor for name, tensor in state().items()}
    checkpoint = {"epoch": 3, "lr": 0.5, "best": None, "name": "run", "state_dict": wrapped}
    torch.save(checkpoint, FOLDER / "checkpoint.pth")
    torch.save({"plain": state()["plain"], "hook": Command()}, FOLDER / "command.pth")
    torch.save({"plain": torch.tensor([1.0, float("nan")])}, FOLDER / "nan.pth")

    positions = (torch.arange(20, dtype=torch.float32) ** 2 % 7).reshape(1, 10, 2)
    for size in [[4, 5], [2, 2]]:
        print(size, resample_abs_pos_embed(positions, size).flatten().tolist())
