"""A scanner over lines of JSON that does what the text it is asked about says, lies included.

Its arguments: a file to write its process id to, and a file that must exist before it says that it is ready
("-" for none).
"""

import json
import os
import sys
import time

with open(sys.argv[1], "a") as starts:
    starts.write(f"{os.getpid()}\n")
while sys.argv[2] != "-" and not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
print('{"ready": true}', flush=True)

for line in sys.stdin:
    question = json.loads(line)
    text = question["text"]
    answer = {"id": question["id"], "decision": "ALLOW", "score": 0.0}
    lines = None
    if "block" in text:
        answer = {"id": question["id"], "decision": "BLOCK", "score": 0.9, "label": "prompt_injection", "more": [1]}
    elif "ask" in text:
        answer = {"id": question["id"], "decision": "HUMAN_IN_THE_LOOP_REQUIRED", "score": 0.5}
    elif "warn" in text:
        answer = {"id": question["id"], "decision": "warn"}
    elif "unsure" in text:
        answer = {"id": question["id"], "decision": "BLOCK", "score": 0.49}
    elif "pid" in text:
        answer = {"id": question["id"], "decision": "WARN", "label": f"pid.{os.getpid()}"}
    elif "tool" in text:
        answer = {"id": question["id"], "decision": "WARN", "label": f"{question['kind']}:{question['tool']}"}
    elif "hang" in text:
        time.sleep(3600)
    elif "die" in text:
        os._exit(1)
    elif "mute" in text:
        os.close(1)
        time.sleep(3600)
    elif "other id" in text:
        answer["id"] = "another"
    elif "no id" in text:
        del answer["id"]
    elif "number id" in text:
        answer["id"] = int(answer["id"])
    elif "word" in text:
        answer["decision"] = "PERHAPS"
    elif "nan" in text:
        answer["score"] = float("nan")
    elif "infinite" in text:
        lines = f'{{"id": "{question["id"]}", "decision": "ALLOW", "score": 1e999}}\n'
    elif "much" in text:
        answer["score"] = 1.5
    elif "quote" in text:
        answer = {"id": question["id"], "decision": "BLOCK", "score": 1, "label": text}
    elif "twins" in text:
        lines = f'{{"id": "{question["id"]}", "decision": "BLOCK", "decision": "ALLOW"}}\n'
    elif "garbage" in text:
        lines = "allow\n"
    elif "empty" in text:
        lines = "\n"
    elif "bytes" in text:
        os.write(1, b"\xff\xfe\n")
        continue
    elif "huge" in text:
        lines = json.dumps(answer) + " " * 200_000 + "\n"
    elif "endless" in text:
        while True:
            os.write(1, b" " * 4096)
    elif "half" in text:
        os.write(1, json.dumps(answer).encode())
        os._exit(0)
    elif "chatty" in text:
        lines = json.dumps(answer) + "\n" + json.dumps(answer) + "\n"
    sys.stdout.write(lines or json.dumps(answer) + "\n")
    sys.stdout.flush()
