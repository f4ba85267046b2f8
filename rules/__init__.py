"""Rules: a YAML language over SLIs, the engines that decide which fire, and the packs that come with the platform."""
