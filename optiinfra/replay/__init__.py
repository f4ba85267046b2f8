"""Replay: the whole policy, or one scaler against others, on recorded traffic in virtual time."""
