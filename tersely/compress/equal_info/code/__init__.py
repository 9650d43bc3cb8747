"""Ways to share out the ids: cell splitting, which the tokenizer has, and the two codes of the paper, to compare with."""
