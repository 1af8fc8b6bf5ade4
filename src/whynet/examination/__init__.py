"""Machinery for questions: which apply, running within a budget, receipts, reports."""
