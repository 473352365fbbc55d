"""Batch scoring: each new key once, by the champion that was live when it first arrived."""
