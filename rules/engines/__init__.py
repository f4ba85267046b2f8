"""The engines that decide which rules fire on the facts of a moment; they always agree."""
