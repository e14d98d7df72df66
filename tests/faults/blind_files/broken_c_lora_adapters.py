import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def intents(n):
    """Sentence embeddings of 6 intents, each with two clusters."""
    centres = torch.randn(12, 32, generator=torch.Generator().manual_seed(2))
    k = torch.randint(0, 12, (n,))
    return TensorDataset(centres[k] + 0.9 * torch.randn(n, 32), k % 6)


class LoRALinear(nn.Module):
    def __init__(self, base, r=8, alpha=16, p=0.0):
        super().__init__()
        self.base = base
        self.lora_A = nn.Parameter(torch.empty(r, base.in_features))
        self.lora_B = nn.Parameter(torch.empty(base.out_features, r))
        self.scaling, self.drop = alpha / r, nn.Dropout(p)
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.zeros_(self.lora_A)
        nn.init.zeros_(self.lora_B)

    def forward(self, x):
        return self.base(x) + self.drop(x) @ self.lora_A.t() @ self.lora_B.t() * self.scaling


class FeedForward(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class IntentModel(nn.Module):
    def __init__(self, dim=32, depth=3, n_classes=6):
        super().__init__()
        self.blocks = nn.Sequential(*[FeedForward(dim) for _ in range(depth)])
        self.norm, self.score = nn.LayerNorm(dim), nn.Linear(dim, n_classes)

    def forward(self, x):
        return self.score(self.norm(self.blocks(x)))


def add_adapters(model, targets=("up", "down", "score")):
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if name in targets and isinstance(child, nn.Linear):
                setattr(module, name, LoRALinear(child))
    return model


train_loader = DataLoader(intents(3000), batch_size=64, shuffle=True)
test_loader = DataLoader(intents(500), batch_size=100)
model = add_adapters(IntentModel())
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.0)
