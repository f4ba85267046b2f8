"""Settings of KV tiers, in the words of vLLM, LMCache and KVBM: writes what a version understands, and finds what is
wrong in what somebody wrote. All of it is text in, findings or text out."""
