"""Record a training run of PyTorch Lightning with a callback of a few lines.

Run it with `python examples/record_lightning.py`; it needs `pip install pytorch-lightning`.
"""

import logging
import sys

import pytorch_lightning as lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import whynet


class Record(lightning.Callback):
    """Records a network in training; `recorder.trajectory()` is there at the end."""

    def __init__(self, network: str, data: TensorDataset, loss: str, path: str) -> None:
        self.network, self.data, self.loss, self.path = network, data, loss, path

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # The plain network inside, since a Lightning module drags its trainer along.
        self.recorder = whynet.Recorder(
            getattr(module, self.network),
            train=self.data,
            loss=self.loss,
            optimizer=trainer.optimizers[0],
            batch_size=trainer.train_dataloader.batch_size,
            share=None,  # this demonstration is too short for a budget; leave it out in yours
        )

    def on_train_batch_end(self, trainer, module, outputs, batch, index) -> None:
        self.recorder(trainer.global_step, {"loss": outputs["loss"]})

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.recorder.trajectory().save(self.path)


class Digits(lightning.LightningModule):
    """An ordinary Lightning module."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)
        )

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(path: str = "run.json") -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
    lightning.seed_everything(0, verbose=False)
    trainer = lightning.Trainer(
        max_epochs=4,
        callbacks=[Record("net", data, "cross_entropy", path)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(Digits(), DataLoader(data, batch_size=64, shuffle=True))
    print(whynet.Trajectory.load(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
