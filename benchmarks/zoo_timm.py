"""Trains a standard architecture of timm from random weights: `python zoo_timm.py --model resnet18`."""

import argparse

import timm
import torch
from torch.utils.data import DataLoader, TensorDataset

SIZES = {"pit_ti_224": 224, "crossvit_tiny_240": 240}


def images(size, count=256):
    """Four classes, told by the channel and the corner that is lighter."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(0, 4, (count,), generator=generator)
    pixels = torch.randn(count, 3, size, size, generator=generator)
    half = size // 2
    for index, label in enumerate(labels.tolist()):
        pixels[index, label % 3, half * (label // 2) :, half * (label % 2) :] += 1.0
    return pixels, labels


def built(name, size):
    """The model; those that fix the size of their images are told it."""
    try:
        return timm.create_model(name, num_classes=4, img_size=size)
    except TypeError:
        return timm.create_model(name, num_classes=4)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--task", default="timm")
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()

    torch.manual_seed(0)
    size = SIZES.get(args.model, 64)
    model = built(args.model, size)
    loader = DataLoader(TensorDataset(*images(size)), batch_size=8, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05)
    criterion = torch.nn.CrossEntropyLoss()
    model.train()
    step = 0
    while step < args.steps:
        for pixels, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(pixels), labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % 10 == 0:
                print(f"step {step} loss {loss.item():.4f}", flush=True)
            if step >= args.steps:
                break


if __name__ == "__main__":
    main()
