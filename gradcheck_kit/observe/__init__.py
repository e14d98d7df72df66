"""Hooks and statistics: what a model does while it trains, read without changing or slowing it noticeably."""
