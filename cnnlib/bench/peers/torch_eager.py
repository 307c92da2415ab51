"""Measures the training loop of PyTorch's quickstart on the seed model, in eager mode, in .venv-peers.

https://docs.pytorch.org/tutorials/beginner/basics/quickstart_tutorial.html, with channels_last and autocast as in the
recipes of PyTorch. Runs on a GPU if one is visible, with pinned memory.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build_seed_cnn() -> nn.Module:
    """Builds the seed model: 47,090 parameters. The softmax is part of the loss, as usual in PyTorch."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(64, 32, 3, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(32, 16, 3, padding="same"),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding="same"),
        nn.Conv2d(16, 8, 3, padding="same"),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(72, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def main(batch_size: int, steps: int, threads: int, bf16: bool) -> float:
    """Returns the images per second over a number of steps, after five steps that are not counted."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    rows = batch_size * steps
    data = TensorDataset(torch.rand(rows, 1, 28, 28), torch.randint(0, 10, (rows,)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loader = DataLoader(data, batch_size=batch_size, shuffle=True, pin_memory=device == "cuda")
    model = build_seed_cnn().to(device, memory_format=torch.channels_last)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters())

    def train(limit: int) -> None:
        model.train()
        for step, (images, labels) in enumerate(loader):
            if step == limit:
                break
            with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
                outputs = model(images.to(device, memory_format=torch.channels_last, non_blocking=True))
                loss = loss_fn(outputs, labels.to(device, non_blocking=True))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    train(5)
    started = time.perf_counter()
    train(steps)
    return rows / (time.perf_counter() - started)


if __name__ == "__main__":
    batch, count, num_threads, use_bf16 = map(int, sys.argv[1:])
    print(json.dumps({"images_per_s": main(batch, count, num_threads, bool(use_bf16))}))  # noqa: T201
