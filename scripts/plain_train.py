"""The default experiment without the engine: plain PyTorch over the same leaves, the same weights.

    python scripts/plain_train.py [seed]

Read it to see what a step of `dltrain train` is; what the engine adds is everything around it:
checkpoints, resume, logging, budgets, precision. A test holds that both end with equal bits.
"""

import sys

import torch
import torch.nn.functional as F

from dltrain.data.digits import Digits
from dltrain.data.resident import ResidentLoader
from dltrain.models.mlp import MLP
from dltrain.schedulers.cosine import Cosine

EPOCHS, BATCH_SIZE, LR, WEIGHT_DECAY = 30, 64, 2e-3, 0.01


def main(seed: int = 0, epochs: int = EPOCHS) -> MLP:
    # ---------------------------------------------------------------- data
    dataset = Digits(
        num_classes=10, image_shape=(1, 8, 8), mean=[0.2878], std=[0.3544], split_seed=0
    )
    loaders = {
        split: ResidentLoader(
            *arrays,
            batch_size=BATCH_SIZE,
            mean=dataset.mean,
            std=dataset.std,
            device="cpu",
            shuffle=split == "train",
            seed=seed,
        )
        for split, arrays in dataset.load().items()
    }
    # ---------------------------------------------------------------- model and optimizer
    torch.manual_seed(seed)
    model = MLP(input_shape=dataset.image_shape, num_classes=10, hidden_sizes=[256, 256])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = Cosine(final_factor=0.0)
    num_steps, step = epochs * len(loaders["train"]), 0
    # ---------------------------------------------------------------- training
    for epoch in range(epochs):
        model.train()
        for batch in loaders["train"].epoch(epoch):
            loss = F.cross_entropy(model(batch.inputs), batch.targets)
            loss.backward()
            optimizer.param_groups[0]["lr"] = LR * schedule(step / num_steps)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        print(f"epoch {epoch + 1}  accuracy/val {accuracy(model, loaders['val']):.4f}")
    print(f"accuracy/test {accuracy(model, loaders['test']):.4f}")
    return model


@torch.no_grad()
def accuracy(model: torch.nn.Module, loader: ResidentLoader) -> float:
    model.eval()
    hits = sum((model(b.inputs).argmax(1) == b.targets).sum() for b in loader.epoch(0))
    return int(hits) / loader.num_samples


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
