"""Record a plain training loop: noise, sharpness, kernel and rank beside the loss.

Run it with `python examples/record_a_loop.py`. It trains a small network on handwritten digits,
writes the record to `run.json` (or the path given) and prints a few of its numbers.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

import whynet


def main(path: str = "run.json") -> None:
    images, labels = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    # Before the first step; from then on it is a function log(step, mapping).
    log = whynet.Recorder(
        model,
        train=(inputs, targets),
        loss="cross_entropy",
        optimizer=optimizer,
        batch_size=64,
        share=None,  # this demonstration is too short for a budget; leave it out in yours
    )

    for step in range(1, 401):
        rows = torch.randint(len(targets), (64,))
        loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log(step, {"loss": loss, "optimizer": optimizer})

    record = log.trajectory()  # measures the last step
    record.save(path)

    print(record)
    for name in ("loss", "noise_scale", "sharpness_over_limit", "kernel_shape_drift"):
        estimate = record.estimate(name)  # of the last step
        print(f"{name}: {estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]")


if __name__ == "__main__":
    main(*sys.argv[1:])
