"""Record a training run of the Hugging Face Trainer with a callback of a few lines.

Run it with `python examples/record_transformers.py`; it needs `pip install transformers[torch]`.
Nothing is downloaded: the network is a tiny BERT with random weights, and the task is whether more
than half the tokens of a sequence are even.
"""

import sys
import tempfile

import torch
import transformers

import whynet

WORDS, LENGTH = 30, 8


class Sequences(torch.utils.data.Dataset):
    """Rows as the Trainer wants them."""

    def __init__(self, count: int) -> None:
        self.tokens = torch.randint(WORDS, (count, LENGTH), generator=torch.manual_seed(1))
        self.labels = (self.tokens % 2 == 0).sum(1).gt(LENGTH // 2).long()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[row], "labels": self.labels[row]}


class Record(transformers.TrainerCallback):
    """Records a network in training."""

    def __init__(self, data: Sequences, path: str) -> None:
        self.data, self.path = data, path

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **rest) -> None:
        self.recorder = whynet.Recorder(
            model,
            # Inputs by the names of the network's arguments; of its answer, the logits.
            train=({"input_ids": self.data.tokens}, self.data.labels),
            output="logits",
            optimizer=optimizer,
            batch_size=args.train_batch_size,
            share=None,  # this demonstration is too short for a budget; leave it out in yours
        )

    def on_step_end(self, args, state, control, optimizer=None, **rest) -> None:
        self.recorder(state.global_step, {"optimizer": optimizer})

    def on_train_end(self, args, state, control, **rest) -> None:
        self.recorder.trajectory().save(self.path)


def main(path: str = "run.json") -> None:
    transformers.set_seed(0)
    data = Sequences(512)
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LENGTH,
        num_labels=2,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            transformers.BertForSequenceClassification(config),
            transformers.TrainingArguments(
                folder,
                num_train_epochs=2,
                per_device_train_batch_size=32,
                learning_rate=3e-3,
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=data,
            callbacks=[Record(data, path)],
        )
        trainer.train()
    print(whynet.Trajectory.load(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
