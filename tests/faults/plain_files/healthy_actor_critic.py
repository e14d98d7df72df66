"""Actor-critic on a contextual bandit: rotate a knob to the shown direction."""
import torch
from torch import nn
from torch.distributions import Categorical
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ACTIONS = 6


def contexts(n, seed):
    g = torch.Generator().manual_seed(seed)
    angle = torch.rand(n, generator=g) * 2 * torch.pi
    obs = torch.stack([angle.cos(), angle.sin(), torch.randn(n, generator=g)], 1)
    best = (angle / (2 * torch.pi) * ACTIONS).long().clamp(max=ACTIONS - 1)
    return obs, best


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.actor = nn.Linear(64, ACTIONS)
        self.critic = nn.Linear(64, 1)
        nn.init.orthogonal_(self.actor.weight, gain=0.01)

    def forward(self, obs):
        h = self.trunk(obs)
        return self.actor(h), self.critic(h).squeeze(-1)


def training_step(model, batch):
    obs, best = batch
    logits, value = model(obs)
    policy = Categorical(logits=logits)
    action = policy.sample()
    reward = (action == best).float()
    advantage = reward - value.detach()
    actor_loss = -(policy.log_prob(action) * advantage).mean()
    critic_loss = nn.functional.mse_loss(value, reward)
    return actor_loss + 0.5 * critic_loss - 0.003 * policy.entropy().mean()


def evaluate(model):
    obs, best = contexts(500, 9)
    return (model(obs)[0].argmax(1) == best).float().mean().item()


model = ActorCritic()
train_loader = DataLoader(TensorDataset(*contexts(4096, 1)), batch_size=128, shuffle=True)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
