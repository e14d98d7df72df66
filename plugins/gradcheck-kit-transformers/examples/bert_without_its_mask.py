"""A BERT classifier on padded texts whose collator forgot the attention mask."""

import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

torch.manual_seed(0)
config = BertConfig(
    vocab_size=200, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, pad_token_id=0
)
model = BertForSequenceClassification(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)


def collate(texts):
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    return {"input_ids": ids, "labels": torch.tensor([int(text[0]) % 2 for text in texts])}


texts = [torch.randint(5, 200, (int(length),)) for length in torch.randint(4, 24, (512,))]
train_loader = DataLoader(texts[:384], batch_size=16, shuffle=True, collate_fn=collate)
test_loader = DataLoader(texts[384:], batch_size=32, collate_fn=collate)
