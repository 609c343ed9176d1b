from medpipe.config.origin import Origin
from medpipe.config.reader import read_text
from medpipe.config.tree import MappingNode, child_of, dotted, node_at, plain, tag_of, walk, with_note

TREE = read_text("a: {name: x, b: [1, {c: 2}]}\nd: null\n", "f")


def test_a_place_is_found_by_keys_and_numbers_in_either_type() -> None:
    for index in (1, "1"):
        node = node_at(TREE, ("a", "b", index, "c"))
        assert node is not None
        assert plain(node) == 2
    assert node_at(TREE, ("a", "b", 2)) is None
    assert node_at(TREE, ("d", "x")) is None
    assert child_of(TREE.entries["a"], "-1") is None


def test_setting_an_entry_leaves_the_old_tree_as_it_was() -> None:
    changed = TREE.with_entry("d", TREE.entries["a"], Origin("elsewhere"))
    assert plain(TREE)["d"] is None
    assert plain(changed)["d"] == plain(changed)["a"]
    assert changed.key_origin("d").line == 2, "a key that was there keeps its place"


def test_the_tag_of_a_mapping_is_text_or_nothing() -> None:
    assert tag_of(TREE.entries["a"], "name") == "x"
    assert tag_of(TREE, "name") is None
    assert tag_of(read_text("name: 3", "f"), "name") is None


def test_walking_meets_every_node_once_parents_first() -> None:
    assert [dotted(path) for path, _ in walk(TREE)] == ["", "a", "a.name", "a.b", "a.b.0", "a.b.1", "a.b.1.c", "d"]


def test_a_note_is_added_everywhere_below() -> None:
    noted = with_note(TREE, "n")
    assert isinstance(noted, MappingNode)
    assert all(node.origin.note == "n" for _, node in walk(noted))
    assert noted.key_origin("a").note == "n"
    assert plain(noted) == plain(TREE)
