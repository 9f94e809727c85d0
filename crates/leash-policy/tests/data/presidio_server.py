"""Presidio's analyzer behind `POST /analyze`: what `presidio-analyzer[server]` of PyPI brings, without a model.

Writes its port to the standard output once it listens.
"""

import json
import os

import presidio_analyzer
from flask import Flask, Response, jsonify, request
from presidio_analyzer import AnalyzerEngineProvider, AnalyzerRequest
from werkzeug.serving import make_server

settings = os.path.join(os.path.dirname(presidio_analyzer.__file__), "conf", "no_op.yaml")
engine = AnalyzerEngineProvider(nlp_engine_conf_file=settings).create_engine()
app = Flask(__name__)


@app.post("/analyze")
def analyze():
    try:
        asked = AnalyzerRequest(request.get_json())
        found = engine.analyze(
            text=asked.text,
            language=asked.language,
            entities=asked.entities,
            score_threshold=asked.score_threshold,
        )
        return Response(json.dumps([one.to_dict() for one in found]), content_type="application/json")
    except Exception as error:
        return jsonify(error=str(error)), 500


server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
