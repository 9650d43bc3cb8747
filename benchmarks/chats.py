"""Chats to ids and masks: tersely against transformers' apply_chat_template, which TRL calls for each conversation.

Both get the same messages and a ChatML template, with and without generation blocks; the ids are compared first. One thread.
"""

import json
import time

import pyarrow as pa
import tokenizers
from report import arguments, best_seconds, publish
from transformers import PreTrainedTokenizerFast

from tersely.corpus.marked import encode_marked
from tersely.corpus.records import ChatRecords, chat_template_for
from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.specials import special_tokens

PLAIN = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ message.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    stored = tokenizers.Tokenizer.from_file(str(options.data / "tokenizers/gpt2/tokenizer.json"))
    stored.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    peer = PreTrainedTokenizerFast(tokenizer_object=stored)
    tok = SubwordTokenizer(stored.to_str(), threads=1)
    spellings = tuple(token.spelling for token in special_tokens(tok))
    stream = pa.CompressedInputStream(str(options.data / "prompts/glaive_toolcall_en.jsonl.zst"), "zstd")
    chats = [read(json.loads(line)["messages"]) for line in stream.read().splitlines()]
    tok.encode(
        ["word " * 1000] * 500
    )  # gigatoken is compared on the first megabytes of a job: not measured here
    rows = []
    for name, source in (("generation blocks", MARKED), ("none", PLAIN)):
        made = ChatRecords(chat_template_for(tok, source), spellings)

        def ours(made=made):
            return encode_marked([made.document({"messages": messages}) for messages in chats], tok)

        def theirs(source=source, masks=source is MARKED):
            return [
                peer.apply_chat_template(
                    messages, chat_template=source, return_dict=True, return_assistant_tokens_mask=masks
                )
                for messages in chats
            ]

        mine, (ids, trained) = best_seconds(ours, options.repeats, time.process_time)
        others, encodings = best_seconds(theirs, options.repeats, time.process_time)
        assert ids.to_list() == [encoding["input_ids"] for encoding in encodings]
        if source is MARKED:
            masks = [[bool(flag) for flag in encoding["assistant_masks"]] for encoding in encodings]
            assert trained.to_list() == masks
        rows.append(
            {
                "template": name,
                "chats": len(chats),
                "tokens": len(ids.values),
                "tersely chats/s": len(chats) / mine,
                "transformers chats/s": len(chats) / others,
                "times": others / mine,
                "transformers gives masks": str(source is MARKED),
            }
        )
    publish(
        "chats",
        rows,
        "ids (and masks, where transformers has them) are equal; 300 tool-calling conversations",
    )


def read(messages):
    """ShareGPT's messages with their text alone."""
    return [
        {"role": "assistant" if m["from"] in ("gpt", "function_call") else "user", "content": m["value"]}
        for m in messages
    ]


if __name__ == "__main__":
    main()
