"""The names of the commands that tree-sitter's grammar of Bash finds in scripts.

Reads a JSON array of scripts from the standard input; writes an array with, for each script, the names of its commands that are written
without quotes, expansions or patterns, or null where the grammar does not understand the script.
"""

import json
import re
import sys

import tree_sitter_bash
from tree_sitter import Language, Parser

parser = Parser(Language(tree_sitter_bash.language()))
plain = re.compile(rb"[A-Za-z0-9_./+-]+")


def names(node, found):
    # What a backquote quotes twice is read by both in their own way.
    if node.type == "command_name":
        text = node.text
        if len(node.children) == 1 and node.children[0].type == "word" and plain.fullmatch(text):
            found.append(text.decode())
    for child in node.children:
        names(child, found)
    return found


def read(script):
    tree = parser.parse(script.encode())
    return None if tree.root_node.has_error else names(tree.root_node, [])


sys.setrecursionlimit(100_000)
json.dump([read(script) for script in json.load(sys.stdin)], sys.stdout)
