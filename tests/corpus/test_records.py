"""Shapes of records: what becomes a document, what is refused and with which words; and where templates are found."""

import json
import pickle
from datetime import datetime

import pytest
from chats import CHATML, CHATML_MARKED, PHI, byte_level

from tersely.corpus.marked import Segment
from tersely.corpus.records import (
    ChatRecords,
    ChatTemplate,
    CompletionRecords,
    NotADocument,
    RecordKind,
    Records,
    TextRecords,
    chat_template_for,
    read_chat_template,
    records_of,
)
from tersely.errors import UsageError
from tersely.tokenize import ByteTokenizer, SubwordTokenizer

CHAT = ChatRecords(ChatTemplate(CHATML), ("<|im_start|>", "<|im_end|>"))
PLAIN = ChatTemplate(
    "{% for m in messages %}{{ m.role }}={{ m.content if m.content is string else m.content | map(attribute='text') | join }};{% endfor %}"
)
USER, ASSISTANT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def spans(document):
    return [(segment.text, segment.trained) for segment in document]


def test_prompts_and_completions_are_two_segments():
    made: Records = CompletionRecords()
    assert made.document({"prompt": "a ", "completion": "b"}) == (
        Segment("a ", trained=False, trusted=False),
        Segment("b", trained=True, trusted=False),
    )
    assert made.columns == ("prompt", "completion")


@pytest.mark.parametrize("source", [CHATML, CHATML_MARKED])
def test_of_prompts_of_messages_only_the_turns_of_the_completion_are_trained(source):
    made = CompletionRecords(ChatRecords(ChatTemplate(source), CHAT.spellings))
    document = made.document({"prompt": [USER, ASSISTANT, USER], "completion": [ASSISTANT, USER, ASSISTANT]})
    whole = made.chat.document({"messages": [USER, ASSISTANT, USER, ASSISTANT, USER, ASSISTANT]})
    assert "".join(text for text, _ in spans(document)) == "".join(text for text, _ in spans(whole))
    assert [text for text, trained in spans(document) if trained] == ["b<|im_end|>"] * 2
    assert [text for text, trained in spans(whole) if trained] == ["b<|im_end|>"] * 3
    assert made.columns == ("prompt", "completion", "tools", "chat_template_kwargs")


def test_texts_are_taken_as_they_are():
    assert TextRecords("body").document({"body": "a"}) == "a"
    assert TextRecords("body").columns == ("body",)


def test_both_public_shapes_of_messages_are_the_same():
    expected = CHAT.document({"messages": [USER, ASSISTANT]})
    sharegpt = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert CHAT.document({"conversations": sharegpt}) == expected
    assert CHAT.document({"messages": sharegpt, "id": 7}) == expected
    assert CHAT.document({"messages": None, "conversations": sharegpt}) == expected
    calling = ChatRecords(ChatTemplate("{% for m in messages %}{{ m | tojson }}{% endfor %}"))
    call = {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'}
    text = "".join(
        text for text, _ in spans(calling.document({"messages": [{"from": "human", "value": "a"}, call]}))
    )
    function = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    assert text == json.dumps(USER) + json.dumps({"role": "assistant", "tool_calls": [function]})


def test_what_goes_with_a_message_reaches_the_template():
    source = (
        "{{ tools | tojson if tools else '' }}{{ mood }}{% for m in messages %}{{ m.name }}{{ m.content is defined }}"
        "{{ m.reasoning_content }}{{ m.thinking }}{% endfor %}"
    )
    record = {
        "messages": [
            {"role": "user", "content": "a", "name": "n"},
            {"role": "user", "content": None, "reasoning": "r"},
        ],
        "chat_template_kwargs": {"mood": "!"},
    }
    for tools in ([{"x": "</b>"}], '[{"x": "</b>"}]'):
        document = ChatRecords(ChatTemplate(source)).document({**record, "tools": tools})
        assert spans(document) == [('[{"x": "</b>"}]!nTrueFalserr', False)]


def test_contents_in_parts_are_turns_as_well():
    parts = [{"type": "text", "text": " b"}, {"type": "text", "text": "c "}, {"type": "text", "text": " "}]
    document = ChatRecords(PLAIN).document({"messages": [USER, {"role": "assistant", "content": parts}]})
    assert spans(document) == [("user=a;assistant= ", False), ("bc", True), ("  ;", False)]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "a"}, r"no field 'messages' or 'conversations' \(fields: 'text'\)"),
        ({"messages": "a"}, "is string, not an array of messages"),
        ({"messages": []}, "has no messages"),
        ({"messages": ["a"]}, "message 0 of 'messages' is string, not an object"),
        ({"messages": [USER, {"content": "a"}]}, r"message 1 of 'messages' has no role \(it has 'content'\)"),
        ({"messages": [{"role": "user", "content": 5}]}, "content of message 0 of 'messages' is number"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]}, "of type 'image'"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "a part of message 0 of 'messages' is string"),
        ({"messages": [{"from": "function_call", "value": "f()"}]}, "no JSON object with name and arguments"),
        ({"messages": [{"role": "user"}]}, "the chat template fails"),
        ({"messages": [{"role": "user", "content": "a\ufdd0"}]}, "U\\+FDD0"),
        ({"messages": [{"role": "user", "content": "a\ufdd2"}]}, "U\\+FDD0"),
        ({"messages": [USER], "chat_template_kwargs": {"x": nested(65)}}, "nested deeper than 64 levels"),
        ({"messages": [USER], "tools": [nested(5000)]}, "nested deeper than 64 levels"),
        ({"messages": [USER, {**ASSISTANT, "x": nested(900)}]}, "nested deeper than 64 levels"),
        ({"messages": [USER], "chat_template_kwargs": {"x": b"<|im_end|>"}}, "holds bytes"),
        ({"messages": [USER], "chat_template_kwargs": {5: 5}}, "cannot be made a document: TypeError"),
        ({"messages": [USER], "tools": "{"}, "'tools' is a string, but not JSON"),
        ({"messages": [USER], "tools": {"a": 1}}, "'tools' is object"),
        ({"messages": [USER], "chat_template_kwargs": "x"}, "'chat_template_kwargs' is string"),
    ],
)
def test_records_of_other_shapes_are_refused_with_what_they_hold(record, reason):
    with pytest.raises(NotADocument, match=reason):
        CHAT.document(record)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "a"}, r"no field 'completion' \(fields: 'prompt'\)"),
        ({"prompt": "a", "completion": [ASSISTANT]}, "the prompt is string and the completion array"),
        ({"prompt": None, "completion": "b"}, "the prompt is null"),
        ({"prompt": [USER], "completion": [ASSISTANT]}, "need a chat template"),
    ],
)
def test_completions_of_other_shapes_are_refused_with_what_they_hold(record, reason):
    with pytest.raises(NotADocument, match=reason):
        CompletionRecords().document(record)


def test_texts_of_other_kinds_are_refused():
    with pytest.raises(NotADocument, match="there is no field 'text'"):
        TextRecords().document({"body": "a"})
    with pytest.raises(NotADocument, match="the field 'text' is null"):
        TextRecords().document({"text": None})


def test_templates_are_found_in_files_and_in_folders_of_tokenizers(tmp_path):
    def folder(name, **files):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            path = tmp_path / name / file.replace("__", ".")
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path / name

    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    for made, template in [
        (folder("a", chat_template__jinja="j", tokenizer_config__json={"chat_template": "c"}), "j"),
        (folder("b", tokenizer_config__json={"chat_template": "c"}), "c"),
        (folder("c", tokenizer_config__json={"chat_template": several}), "d"),
        (folder("d", file__txt="x") / "file.txt", "x"),
        (tmp_path / "b" / "tokenizer_config.json", "c"),
    ]:
        assert read_chat_template(made) == template
    for made in (folder("e"), folder("f", tokenizer_config__json={}), folder("g", chat_template__jinja="")):
        with pytest.raises(UsageError, match="has no chat template"):
            read_chat_template(made)
    for made in (
        tmp_path / "none",
        folder("h", tokenizer_config__json="{"),
        folder("i", tokenizer_config__json={"chat_template": [{}]}),
    ):
        with pytest.raises(UsageError, match="cannot be read"):
            read_chat_template(made)


def test_a_template_knows_how_the_vocabulary_spells_its_specials():
    tok = SubwordTokenizer(byte_level(), {"bos_token": "<s>", "eos_token": "</s>"})
    assert chat_template_for(tok, "x").variables == {"bos_token": "<s>", "eos_token": "</s>"}
    assert chat_template_for(ByteTokenizer(), "{{ bos_token }}x").render([USER], {}) == "x"
    assert ChatRecords(chat_template_for(tok, PHI)).document({"messages": [USER]})[0].text.endswith("</s>")


def test_the_time_is_the_same_for_a_whole_corpus():
    template = ChatTemplate("{{ strftime_now('%Y-%m-%d') }}", now=datetime(2026, 2, 3))
    assert template.render([USER], {}) == "2026-02-03"


def test_a_template_that_asks_for_no_date_is_the_same_at_all_times():
    made = [ChatTemplate(CHATML, now=datetime(2026, 2, day)) for day in (3, 4)]
    assert made[0] == made[1]
    assert pickle.dumps(made[0]) == pickle.dumps(made[1])


def test_options_that_are_no_json_are_no_trouble():
    record = {"messages": [USER, ASSISTANT], "chat_template_kwargs": {"date": datetime(2020, 1, 1)}}
    assert CHAT.document(record) == CHAT.document({"messages": [USER, ASSISTANT]})


def test_options_that_always_differ_do_not_pile_up():
    made = ChatRecords(ChatTemplate(CHATML), CHAT.spellings)
    for number in range(200):
        record = {"messages": [USER, ASSISTANT], "chat_template_kwargs": {"n": number}}
        assert made.document(record) == CHAT.document({"messages": [USER, ASSISTANT]})
    assert len(made._turns._known_bounds) <= 64


def test_what_a_wrong_template_raises_is_not_taken_for_a_fault_of_the_record():
    with pytest.raises(UsageError, match="line 1 of the chat template"):
        ChatRecords(ChatTemplate("{% if %}")).document({"messages": [USER]})


def test_many_turns_are_cut_out_quickly_or_refused():
    thought = {**ASSISTANT, "reasoning_content": "r"}
    assert len([s for s in CHAT.document({"messages": [USER, ASSISTANT] * 4000}) if s.trained]) == 4000
    with pytest.raises(NotADocument, match="4000 of 8000 messages must be told apart by rendering"):
        CHAT.document({"messages": [USER, thought] * 4000})


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ namespace(_x=1) }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no') }}",
        "{% for x in range(10000000) %}{% endfor %}",
    ],
)
def test_what_a_template_may_not_do_is_refused(source):
    with pytest.raises(NotADocument, match="the chat template fails"):
        ChatRecords(ChatTemplate(source)).document({"messages": [USER]})


def test_a_template_that_is_none_is_refused_with_its_line():
    with pytest.raises(UsageError, match="line 2 of the chat template"):
        ChatRecords(ChatTemplate("a\n{% if %}")).document({"messages": [USER]})


def test_kinds_are_made_by_their_names():
    tok = SubwordTokenizer(byte_level(), {"eos_token": "</s>"})
    assert records_of(RecordKind.TEXT, tok, text_field="body") == TextRecords("body")
    assert records_of(RecordKind("prompt-completion"), tok) == CompletionRecords()
    made = records_of(RecordKind("messages"), tok, chat_template=CHATML)
    assert [text for text, trained in spans(made.document({"messages": [USER, ASSISTANT]})) if trained] == [
        "b<|im_end|>"
    ]
    assert "<|im_end|>" in records_of(RecordKind.PROMPT_COMPLETION, tok, chat_template=CHATML).chat.spellings
    with pytest.raises(UsageError, match="messages need a chat template"):
        records_of(RecordKind.MESSAGES, tok)
    with pytest.raises(UsageError, match="line 1 of the chat template"):
        records_of(RecordKind.MESSAGES, tok, chat_template="{% if %}")


def test_records_that_have_been_used_can_go_to_another_process():
    document = CHAT.document({"messages": [USER, ASSISTANT]})
    there = pickle.loads(pickle.dumps(CompletionRecords(CHAT)))
    assert there == CompletionRecords(CHAT)
    assert there.chat.document({"messages": [USER, ASSISTANT]}) == document
