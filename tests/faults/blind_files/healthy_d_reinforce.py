"""REINFORCE with a learned baseline on a contextual task with noisy rewards."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(33)
true_w = torch.randn(6, 4)
contexts = torch.randn(4000, 6)


def reward(x, action):
    best = (x @ true_w).argmax(1)
    return (action == best).float() + 0.2 * torch.randn(len(x))


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 64), nn.Tanh())
        self.actor, self.critic = nn.Linear(64, 4), nn.Linear(64, 1)
        nn.init.orthogonal_(self.trunk[0].weight, 2 ** 0.5)
        nn.init.orthogonal_(self.actor.weight, 0.01)
        nn.init.zeros_(self.actor.bias)
        nn.init.orthogonal_(self.critic.weight, 1.0)

    def forward(self, x):
        h = self.trunk(x)
        return torch.distributions.Categorical(logits=self.actor(h)), self.critic(h).squeeze(1)


def training_step(model, batch):
    (x,) = batch
    dist, value = model(x)
    action = dist.sample()
    r = reward(x, action)
    advantage = (r - value).detach()
    return -(dist.log_prob(action) * advantage).mean() + 0.5 * (r - value).square().mean() - 0.01 * dist.entropy().mean()


train_loader = DataLoader(TensorDataset(contexts), batch_size=200, shuffle=True)
model = Policy()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, eps=1e-5)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
