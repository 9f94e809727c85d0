"""Turns the price data of two Python packages into ours. Run by `cargo xtask prices`; needs Python 3.11 and no package.

Usage: prices.py GENAI_WHEEL LITELLM_WHEEL AS_OF OUT_JSON OUT_MD OUT_TSV

The data of genai-prices is Python source that calls constructors. They are replaced by records here, so nothing of the
package runs but the one expression that lists its data. Whatever this does not understand ends it with an error: a
price that is silently left out would be a call that is silently refused, and a rule misread a call wrongly charged.
"""

import __future__

import datetime
import json
import re
import sys
import types
import zipfile
from decimal import ROUND_CEILING, Decimal

try:
    from re import _constants as sre
    from re import _parser as sre_parse
except ImportError:
    import sre_constants as sre
    import sre_parse

NANO = Decimal(10) ** 9
MILLION = Decimal(10) ** 6

# What a call's usage can count: the source's key, ours, and how many units the source's price is for.
METERED = {
    "input_mtok": ("input", 10**6),
    "output_mtok": ("output", 10**6),
    "cache_read_mtok": ("cache_read", 10**6),
    "cache_write_mtok": ("cache_write", 10**6),
    "cache_write_1h_mtok": ("cache_write_1h", 10**6),
    "output_reasoning_mtok": ("reasoning", 10**6),
    "input_audio_mtok": ("input_audio", 10**6),
    "input_image_mtok": ("input_image", 10**6),
    "cache_audio_read_mtok": ("cache_read_audio", 10**6),
    "cache_image_read_mtok": ("cache_read_image", 10**6),
    "output_audio_mtok": ("output_audio", 10**6),
    "output_image_mtok": ("output_image", 10**6),
    "requests_kcount": ("request", 1000),
    "web_searches_kcount": ("web_search", 1000),
    "storage_searches_kcount": ("file_search", 1000),
}
# What nothing in a chat's usage counts. A model with such a price is refused.
UNMETERED = {
    "audio_hours": ("audio_second", 3600),
    "input_audio_hours": ("input_audio_second", 3600),
    "input_mchars": ("character", 10**6),
    "input_document_kpages": ("page", 1000),
    "input_annotated_document_kpages": ("annotated_page", 1000),
    "input_text_messages_kcount": ("text_message", 1000),
    "input_video_mtok": ("input_video_token", 10**6),
    "output_video_mtok": ("output_video_token", 10**6),
    "output_citation_mtok": ("citation_token", 10**6),
}
ORDER = [ours for ours, _ in METERED.values()]

# How litellm names the providers, and the prefixes its names of their models have.
LITELLM = {
    "anthropic": ({"anthropic"}, [""]),
    "openai": ({"openai", "text-completion-openai"}, ["", "openai/"]),
    "azure": ({"azure", "azure_ai", "azure_text"}, ["azure/", "azure_ai/"]),
    "aws": ({"bedrock", "bedrock_converse"}, ["", "bedrock/", "bedrock_converse/"]),
    "google": ({"gemini"}, ["gemini/"]),
    "x-ai": ({"xai"}, ["xai/"]),
    "deepseek": ({"deepseek"}, ["deepseek/", ""]),
    "mistral": ({"mistral"}, ["mistral/"]),
    "groq": ({"groq"}, ["groq/"]),
    "cohere": ({"cohere", "cohere_chat"}, ["", "cohere/"]),
    "perplexity": ({"perplexity"}, ["perplexity/"]),
    "together": ({"together_ai"}, ["together_ai/"]),
    "fireworks": ({"fireworks_ai"}, ["fireworks_ai/"]),
    "novita": ({"novita"}, ["novita/"]),
    "cerebras": ({"cerebras"}, ["cerebras/"]),
    "moonshotai": ({"moonshot"}, ["moonshot/"]),
    "voyageai": ({"voyage"}, ["voyage/"]),
    "zai": ({"zai"}, ["zai/"]),
    "databricks": ({"databricks"}, ["databricks/"]),
    "minimax": ({"minimax"}, ["minimax/"]),
    "baseten": ({"baseten"}, ["baseten/"]),
    "cloudflare": ({"cloudflare"}, ["cloudflare/"]),
    "ovhcloud": ({"ovhcloud"}, ["ovhcloud/"]),
}
# What both sources may leave out: a search in preview (`web_search_preview`) costs 25 dollars a thousand with models that
# do not reason, and the answer does not say which of OpenAI's two kinds of search it was. From OpenAI's page of prices.
SEARCH_FLOORS = [("openai", re.compile(r"gpt-4(o|\.1)(-mini|-nano)?(-20\d\d-.*)?"), 25 * 10**12)]
# What a container costs in which the provider runs code: litellm's entry of it, or an hour of one, which is more than a call
# takes, where it is billed by the time. From Anthropic's documentation, "Code execution tool", "Pricing".
CONTAINERS = {"openai": "openai/container", "azure": "azure/container", "anthropic": Decimal("0.05")}
# A context window that the model's own tiers pass is out of date; this is the next one that was offered.
LONG_WINDOW = 10**6
# Providers whose models are taken from litellm where genai-prices does not know them.
ADDED = ("anthropic", "openai")

LITELLM_PRICES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "input_audio",
    "input_cost_per_image_token": "input_image",
    "cache_read_input_audio_token_cost": "cache_read_audio",
    "cache_read_input_image_token_cost": "cache_read_image",
    "output_cost_per_audio_token": "output_audio",
    "output_cost_per_image_token": "output_image",
}
LITELLM_TIERS = {"_priority": "priority", "_flex": "flex", "_batches": "batch"}


# --- reading genai-prices -------------------------------------------------------------------------------------------


class Record:
    """One call of a constructor: its name and its arguments."""

    def __init__(self, kind, args, kwargs):
        self.kind = kind
        self.args = args
        self.__dict__.update(kwargs)

    def get(self, name, default=None):
        return self.__dict__.get(name, default)


class Constructors(dict):
    """A namespace in which every unknown name is a constructor."""

    def __missing__(self, name):
        if name.startswith("__") or not name[:1].isupper():
            if name == "list":
                return list
            raise KeyError(name)
        return lambda *args, **kwargs: Record(name, args, kwargs)


def wheel_version(path):
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    return name.split("-")[1]


def read_genai(path):
    with zipfile.ZipFile(path) as wheel:
        source = wheel.read("genai_prices/data.py").decode()
    kept = [line for line in source.splitlines() if not re.match(r"(from|import) ", line)]
    namespace = Constructors(datetime=datetime, Decimal=Decimal, __builtins__={})
    # The annotation `providers: list[Provider]` is not evaluated.
    code = compile("\n".join(kept), path, "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
    exec(code, namespace)
    return namespace["providers"]


def read_litellm(path):
    with zipfile.ZipFile(path) as wheel:
        return json.loads(
            wheel.read("litellm/model_prices_and_context_window_backup.json"), parse_float=Decimal, parse_int=Decimal
        )


# --- rules ----------------------------------------------------------------------------------------------------------


def expand(tree):
    """Every text that a regular expression can match, with `#` for a digit. Raises where there are too many kinds."""
    texts = [""]
    for op, value in tree:
        if op is sre.LITERAL:
            assert chr(value) != "#"
            choices = [chr(value)]
        elif op is sre.IN:
            if value == [(sre.CATEGORY, sre.CATEGORY_DIGIT)]:
                choices = ["#"]
            else:
                choices = []
                for kind, char in value:
                    if kind is not sre.LITERAL:
                        raise ValueError(f"a set with {kind}")
                    choices.append(chr(char))
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            low, high, inner = value
            if high == low:
                choices = [text * low for text in expand(inner)]
            elif (low, high) == (0, 1):
                choices = ["", *expand(inner)]
            else:
                raise ValueError(f"a repetition from {low} to {high}")
        elif op is sre.SUBPATTERN:
            choices = expand(value[3])
        elif op is sre.BRANCH:
            choices = [text for branch in value[1] for text in expand(branch)]
        else:
            raise ValueError(f"an operator {op}")
        texts = [text + choice for text in texts for choice in choices]
        if len(texts) > 100:
            raise ValueError("too many alternatives")
    return texts


def regex_rule(regex):
    """Our rule for one of the source's regular expressions."""
    parts = []
    rest = regex
    if rest == "^(?!.*-[tT][tT][sS](?:$|-))":
        return {"not": {"or": ["$-tts", "~-tts-"]}}
    if rest.startswith("^(?![^/]+/)"):
        parts.append({"not": "~/"})
        rest = "^" + rest[len("^(?![^/]+/)") :]
    tree = list(sre_parse.parse(rest))
    if not tree or tree[0] != (sre.AT, sre.AT_BEGINNING):
        raise ValueError(f"`{regex}` is not anchored")
    whole = tree[-1] == (sre.AT, sre.AT_END)
    texts = expand(tree[1:-1] if whole else tree[1:])
    if any(text != text.lower() for text in texts):
        raise ValueError(f"`{regex}` has capitals")
    rules = []
    for text in texts:
        if "#" in text:
            rules.append(("#" if whole else "%") + text)
        else:
            rules.append(("=" if whole else "^") + text)
    parts.append(rules[0] if len(rules) == 1 else {"or": rules})
    return parts[0] if len(parts) == 1 else {"and": parts}


SIGILS = {
    "ClauseEquals": ("=", "equals"),
    "ClauseStartsWith": ("^", "starts_with"),
    "ClauseEndsWith": ("$", "ends_with"),
    "ClauseContains": ("~", "contains"),
}


def rule_of(clause):
    if clause is None:
        return None
    if clause.kind in SIGILS:
        sigil, field = SIGILS[clause.kind]
        return sigil + clause.get(field).lower()
    if clause.kind == "ClauseRegex":
        return regex_rule(clause.regex)
    if clause.kind == "ClauseOr":
        return {"or": [rule_of(one) for one in clause.or_]}
    if clause.kind == "ClauseAnd":
        return {"and": [rule_of(one) for one in clause.and_]}
    raise ValueError(f"a rule of the kind {clause.kind}")


def flat(rule):
    """A list of alternatives, with nested ones taken apart."""
    if isinstance(rule, dict) and "or" in rule:
        return [one for inner in rule["or"] for one in flat(inner)]
    return [rule]


def matches(clause, text):
    """What the source says of its own rule; `text` in lower case."""
    kind = clause.kind
    if kind == "ClauseEquals":
        return text == clause.equals.lower()
    if kind == "ClauseStartsWith":
        return text.startswith(clause.starts_with.lower())
    if kind == "ClauseEndsWith":
        return text.endswith(clause.ends_with.lower())
    if kind == "ClauseContains":
        return clause.contains.lower() in text
    if kind == "ClauseRegex":
        return bool(re.search(clause.regex, text))
    if kind == "ClauseOr":
        return any(matches(one, text) for one in clause.or_)
    return all(matches(one, text) for one in clause.and_)


def literals(clause, found=None):
    """Names that the rule itself spells out: its examples."""
    found = [] if found is None else found
    if clause.kind in SIGILS:
        found.append(clause.get(SIGILS[clause.kind][1]))
    elif clause.kind == "ClauseRegex":
        try:
            rules = flat(regex_rule(clause.regex))
            found.extend(rule[1:].replace("####", "2026").replace("#", "1") for rule in rules if isinstance(rule, str))
        except ValueError:
            pass
    else:
        for one in clause.get("or_") or clause.get("and_"):
            literals(one, found)
    return found


def find(provider, text, by_id, step=True):
    text = text.lower()
    for model in provider.models:
        if matches(model.match, text):
            return provider, model
    if step:
        for other in provider.get("fallback_model_providers") or []:
            found = find(by_id[other], text, by_id, step=False)
            if found:
                return found
    return None


# --- prices ---------------------------------------------------------------------------------------------------------


def nanos(price, per):
    """Nano-dollars for a million units, rounded up where the source is finer."""
    return int((price * NANO * MILLION / per).to_integral_value(rounding=ROUND_CEILING))


def members(price):
    skip = {"kind", "args"}
    return {key: value for key, value in price.__dict__.items() if key not in skip and value is not None}


def rates_of(prices):
    """`{"input": …, "tiers": […], "unmetered": {…}}` of a mapping of the source's keys."""
    base, starts, unmetered = {}, set(), {}
    for key, value in prices.items():
        is_tiered = isinstance(value, Record)
        if is_tiered and value.kind != "TieredPrices":
            raise ValueError(f"a price of the kind {value.kind}")
        if key in METERED:
            name, per = METERED[key]
            base[name] = nanos(value.base if is_tiered else value, per)
            if is_tiered:
                starts.update(tier.start for tier in value.tiers)
        elif key in UNMETERED and not is_tiered:
            name, per = UNMETERED[key]
            unmetered[name] = nanos(value, per)
        else:
            raise ValueError(f"a price for `{key}`")
    tiers = []
    for start in sorted(starts):
        tier = {"above_input_tokens": start}
        for key, value in prices.items():
            if isinstance(value, Record):
                # The highest tier that has begun counts for all tokens.
                price = value.base
                for one in sorted(value.tiers, key=lambda one: one.start):
                    if one.start <= start:
                        price = one.price
                name, per = METERED[key]
                if nanos(price, per) != base[name]:
                    tier[name] = nanos(price, per)
        tiers.append(tier)
    result = {name: base[name] for name in ORDER if name in base}
    if tiers:
        result["tiers"] = tiers
    if unmetered:
        result["unmetered"] = dict(sorted(unmetered.items()))
    return result


def tier_name(when):
    if when == {"processing": "batch"}:
        return "batch"
    if when == {"speed": "fast"}:
        return "fast"
    if set(when) == {"service_tier"} and when["service_tier"] in ("default", "priority", "fast", "flex"):
        return when["service_tier"]
    return None


def starts(constraint, day):
    return constraint is None or (day is not None and constraint.start_date <= day)


def dated(model, notes):
    """The prices of a model in order; the last that holds counts, and the first where none does."""
    listed = model.prices if isinstance(model.prices, list) else [Record("ConditionalPrice", (), {"prices": model.prices})]
    variants = model.get("price_variants") or []
    has_hours = any(one.get("constraint") is not None and one.constraint.kind == "TimeOfDateConstraint" for one in listed)
    result = []
    if has_hours:
        if variants:
            raise ValueError(f"`{model.id}` has prices by the hour and by the tier")
        for one in listed:
            entry = {}
            constraint = one.get("constraint")
            if constraint is not None and constraint.kind == "StartDateConstraint":
                entry["from"] = constraint.start_date.isoformat()
            elif constraint is not None:
                for at in (constraint.start_time, constraint.end_time):
                    if at.utcoffset() != datetime.timedelta(0) or at.second:
                        raise ValueError(f"`{model.id}` changes its price at {at}")
                entry["daily"] = [f"{constraint.start_time:%H:%M}", f"{constraint.end_time:%H:%M}"]
            entry.update(rates_of(members(one.prices)))
            result.append(entry)
        return result

    days = {one.constraint.start_date for one in [*listed, *variants] if one.get("constraint") is not None}
    for day in [None, *sorted(days)]:
        standard = listed[0].prices
        for one in listed:
            if starts(one.get("constraint"), day):
                standard = one.prices
        standard = members(standard)
        tiers, hidden = {}, []
        for variant in variants:
            if not starts(variant.get("constraint"), day):
                continue
            name = tier_name(variant.when)
            if name == "default":
                continue
            prices = dict(standard) | members(variant.prices)
            if name is None:
                hidden.append((variant.when, prices))
            else:
                # The first that holds counts, key by key.
                tiers[name] = prices | {key: value for key, value in tiers.get(name, {}).items() if key in prices}
        rates = rates_of(standard)
        for when, prices in hidden:
            # What a call does not show is charged at the dearest.
            other = rates_of(prices)
            dearer = {key for key in other if isinstance(other[key], int) and other[key] > rates.get(key, 0)}
            for key in dearer:
                rates[key] = other[key]
            if dearer:
                notes.append(f"`{model.id}`: {', '.join(sorted(dearer))} as with {when}, which a call does not show")
        entry = {} if day is None else {"from": day.isoformat()}
        entry.update(rates)
        entry_tiers = {name: rates_of(prices) for name, prices in sorted(tiers.items())}
        entry_tiers = {name: prices for name, prices in entry_tiers.items() if prices != rates}
        if entry_tiers:
            entry["service_tiers"] = entry_tiers
        if not result or {k: v for k, v in result[-1].items() if k != "from"} != {
            k: v for k, v in entry.items() if k != "from"
        }:
            result.append(entry)
    return result


def has_price(entry):
    return any(isinstance(value, int) and value > 0 for value in entry.values()) or "unmetered" in entry


# --- litellm --------------------------------------------------------------------------------------------------------


def per_token(price):
    return int((price * NANO * MILLION).to_integral_value(rounding=ROUND_CEILING))


def litellm_rates(entry, suffix=""):
    rates = {}
    for key, name in LITELLM_PRICES.items():
        price = entry.get(key + suffix)
        if isinstance(price, Decimal):
            rates[name] = per_token(price)
    tiers = {}
    for key, price in entry.items():
        found = re.fullmatch(r"(.+)_above_(\d+)k_tokens" + suffix, key)
        if found and found[1] in LITELLM_PRICES and isinstance(price, Decimal):
            tiers.setdefault(int(found[2]) * 1000, {})[LITELLM_PRICES[found[1]]] = per_token(price)
    if tiers:
        rates["tiers"] = [{"above_input_tokens": start, **tier} for start, tier in sorted(tiers.items())]
    if not suffix:
        search = litellm_search(entry)
        if search is not None:
            rates["web_search"] = search
    return rates


def litellm_regional(entry):
    """How many percent dearer a token is where it is processed in one region."""
    factors = [value for key, value in entry.items() if key.startswith("regional_processing_uplift_multiplier_")]
    return max([int(((factor - 1) * 100).to_integral_value(rounding=ROUND_CEILING)) for factor in factors], default=0)


def container_price(litellm, provider):
    """What a container costs, in our unit; `None` where the provider has none."""
    cost = CONTAINERS.get(provider)
    if isinstance(cost, str):
        cost = litellm[cost]["code_interpreter_cost_per_session"]
    return None if cost is None else nanos(cost, 1)


def litellm_search(entry):
    """A search on the web, at the dearest size of context."""
    costs = entry.get("search_context_cost_per_query")
    if not isinstance(costs, dict):
        return None
    costs = [cost for cost in costs.values() if isinstance(cost, Decimal)]
    return max(map(per_token, costs)) if costs else None


def litellm_names(litellm, provider, name):
    """Names of litellm for `name` of `provider`."""
    kinds, prefixes = LITELLM[provider]
    names = []
    if provider == "aws" and name.startswith("regional."):
        name = name.removeprefix("regional.")
    for prefix in prefixes:
        entry = litellm.get(prefix + name)
        if entry is not None and entry.get("litellm_provider") in kinds:
            names.append(prefix + name)
    return names


def whole(entry, key):
    value = entry.get(key)
    return int(value) if isinstance(value, Decimal) and value == int(value) and value > 0 else None


# --- the whole ------------------------------------------------------------------------------------------------------


def standing(prices, day):
    """The entry that holds on `day`, whatever the hour."""
    current = prices[0]
    for entry in prices:
        if "daily" not in entry and entry.get("from", "") <= day:
            current = entry
    return current


def dollars(amount):
    if amount is None:
        return "–"
    text = f"{Decimal(amount) / NANO:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def compare(ours, theirs, prefix=""):
    """The differences in what both sources price: `(what, ours, theirs)`."""
    result = []
    for name in ORDER:
        if name in ("web_search", "file_search", "request"):
            continue
        if name in ours and name in theirs and ours[name] != theirs[name]:
            result.append((prefix + name, ours[name], theirs[name]))
    ours_tiers = {tier["above_input_tokens"]: tier for tier in ours.get("tiers", [])}
    theirs_tiers = {tier["above_input_tokens"]: tier for tier in theirs.get("tiers", [])}
    for start in sorted(ours_tiers.keys() | theirs_tiers.keys()):
        a, b = ours_tiers.get(start, {}), theirs_tiers.get(start, {})
        for name in ORDER:
            # Where a source has no tier, its base price holds on.
            left, right = a.get(name, ours.get(name)), b.get(name, theirs.get(name))
            if (name in a or name in b) and left is not None and right is not None and left != right:
                result.append((f"{prefix}{name} above {start}", left, right))
    return result


def main():
    genai_path, litellm_path, as_of, out_json, out_md, out_tsv = sys.argv[1:]
    providers = read_genai(genai_path)
    litellm = read_litellm(litellm_path)
    genai_version, litellm_version = wheel_version(genai_path), wheel_version(litellm_path)
    by_id = {provider.id: provider for provider in providers}

    # Names of the other source that a rule of this one knows. They are spelled out, as a look-up by name is quicker and
    # surer than one by a rule.
    known_by_rule = {}
    for provider in providers:
        if provider.id in ADDED:
            for key, entry in sorted(litellm.items()):
                if entry.get("litellm_provider") == provider.id and "/" not in key:
                    found = find(provider, key, by_id, step=False)
                    if found is not None:
                        known_by_rule.setdefault((provider.id, found[1].id), []).append(key.lower())

    models, notes, unpriced, differences, added, windows = [], [], [], [], [], []
    compared = 0
    for provider in providers:
        for model in provider.models:
            entries = dated(model, notes)
            if not any(has_price(entry) for entry in entries):
                unpriced.append(f"{provider.id}/{model.id}")
                continue
            if not all(has_price(entry) for entry in entries):
                # Before the first price, and while it is free: nothing that one could charge.
                entries = [entry for entry in entries if has_price(entry)]
            line = {"provider": provider.id, "model": model.id}
            rules = []
            for rule in flat(rule_of(model.match)):
                if isinstance(rule, str) and rule[0] == "=":
                    # A name finds the first model that has it, as rules are asked in order.
                    if rule[1:] == model.id.lower() or find(provider, rule[1:], by_id, step=False)[1] is not model:
                        continue
                if rule not in rules:
                    rules.append(rule)
            for name in known_by_rule.get((provider.id, model.id), []):
                if "=" + name not in rules and name != model.id.lower():
                    rules.append("=" + name)
            if rules:
                line["match"] = rules
            window, output, search, regional = model.get("context_window"), None, None, 0
            if provider.id in LITELLM:
                names = {model.id.lower(): None}
                for rule in flat(rule_of(model.match)):
                    if isinstance(rule, str) and rule[0] == "=":
                        names[rule[1:]] = None
                seen = set()
                for name in names:
                    for key in litellm_names(litellm, provider.id, name):
                        if key in seen:
                            continue
                        seen.add(key)
                        theirs = litellm[key]
                        inputs, outputs = whole(theirs, "max_input_tokens"), whole(theirs, "max_output_tokens")
                        if inputs is not None and outputs is not None:
                            # Where litellm gives the input alone, the output fits beside it.
                            if window is not None and inputs != window:
                                windows.append((f"{provider.id}/{model.id}", window, key, inputs))
                            window = max(window or 0, inputs)
                        if outputs is not None and theirs.get("mode") in ("chat", "responses", "completion", None):
                            output = max(output or 0, outputs)
                        cost = litellm_search(theirs)
                        if cost is not None:
                            search = max(search or 0, cost)
                        regional = max(regional, litellm_regional(theirs))
                        # The first that is the model itself is compared; later ones may be of another date.
                        if len(seen) == 1 and name == model.id.lower():
                            compared += 1
                            ours = standing(entries, as_of)
                            found = compare(ours, litellm_rates(theirs))
                            for suffix, tier in LITELLM_TIERS.items():
                                prices = litellm_rates(theirs, suffix)
                                mine = ours.get("service_tiers", {}).get(tier)
                                if prices and mine:
                                    found += compare(mine, prices, prefix=f"{tier}: ")
                            differences += [(f"{provider.id}/{model.id}", *one) for one in found]
            passed = [tier["above_input_tokens"] for entry in entries for tier in entry.get("tiers", [])]
            if window is not None and max(passed, default=0) >= window:
                notes.append(f"`{model.id}`: a context window of {LONG_WINDOW}, as it has prices for more than the {window} that are listed")
                window = max(window, LONG_WINDOW)
            if window is not None:
                line["context_window"] = window
            if output is not None:
                line["max_output_tokens"] = output
            if regional:
                line["regional_percent"] = regional
            floor = [cost for id, names, cost in SEARCH_FLOORS if id == provider.id and names.fullmatch(model.id)]
            search = max([cost for cost in [search, *floor] if cost is not None], default=None)
            if search is not None:
                raised = False
                for entry in entries:
                    for rates in [entry, *entry.get("service_tiers", {}).values()]:
                        if "web_search" in rates and rates["web_search"] < search:
                            rates["web_search"] = search
                            raised = True
                        rates.setdefault("web_search", search)
                if raised:
                    notes.append(f"`{model.id}`: a search on the web costs as much as one in preview, of which the answer does not tell it")
            line["prices"] = entries
            models.append(line)

        # Models that the other source alone knows.
        if provider.id in ADDED:
            for key in sorted(litellm):
                entry = litellm[key]
                if entry.get("litellm_provider") != provider.id or "/" in key:
                    continue
                if entry.get("mode") not in ("chat", "responses", "completion"):
                    continue
                # Names in the source that its rule knows by a prefix alone are the source's.
                known = find(provider, key, by_id, step=False)
                if known is not None and f"{provider.id}/{known[1].id}" not in unpriced:
                    continue
                rates = litellm_rates(entry)
                if not rates.get("input") or not rates.get("output"):
                    continue
                line = {"provider": provider.id, "model": key}
                if key.startswith("ft:"):
                    line["match"] = ["^" + key + ":"]
                line["source"] = "litellm"
                for name, field in (("context_window", "max_input_tokens"), ("max_output_tokens", "max_output_tokens")):
                    if whole(entry, field) is not None:
                        line[name] = whole(entry, field)
                tiers = {}
                for suffix, tier in LITELLM_TIERS.items():
                    prices = litellm_rates(entry, suffix)
                    if prices.get("input") and prices.get("output"):
                        tiers[tier] = {name: value for name, value in rates.items() if name != "tiers"} | prices
                if tiers:
                    rates["service_tiers"] = dict(sorted(tiers.items()))
                if litellm_regional(entry):
                    line["regional_percent"] = litellm_regional(entry)
                line["prices"] = [rates]
                models.append(line)
                added.append((f"{provider.id}/{key}", rates["input"], rates["output"]))

    # Models in AWS's regions for governments, which the source's rules take for those of other regions.
    for key in sorted(litellm):
        entry = litellm[key]
        rates = litellm_rates(entry)
        if not key.startswith("us-gov.") or not rates.get("input") or not rates.get("output"):
            continue
        line = {"provider": "aws", "model": key, "source": "litellm"}
        for name, field in (("context_window", "max_input_tokens"), ("max_output_tokens", "max_output_tokens")):
            if whole(entry, field) is not None:
                line[name] = whole(entry, field)
        line["prices"] = [rates]
        models.append(line)
        added.append((f"aws/{key}", rates["input"], rates["output"]))

    # A search has a price wherever the provider has one: that of its dearest model.
    for provider in providers:
        own = [line for line in models if line["provider"] == provider.id]
        each = [entry.get("web_search") for line in own for entry in line["prices"]]
        dearest = max([cost for cost in each if cost], default=None)
        if dearest is not None:
            for line in own:
                for entry in line["prices"]:
                    for rates in [entry, *entry.get("service_tiers", {}).values()]:
                        rates.setdefault("web_search", dearest)

    # So has a container with code, for what answers in words.
    for line in models:
        cost = container_price(litellm, line["provider"])
        if cost is not None:
            for entry in line["prices"]:
                for rates in [entry, *entry.get("service_tiers", {}).values()]:
                    if "output" in rates:
                        rates.setdefault("code_execution", cost)

    for line in models:
        for entry in line["prices"]:
            for rates in [entry, *entry.get("service_tiers", {}).values()]:
                if any(isinstance(value, int) and not 0 <= value < 2**53 for value in rates.values()):
                    raise ValueError(f"`{line['model']}` has a price out of range")

    heads = []
    for provider in providers:
        head = {"id": provider.id}
        ids, names = rule_of(provider.get("provider_match")), rule_of(provider.get("model_match"))
        if ids is not None:
            head["match"] = flat(ids)
        if names is not None:
            head["models"] = flat(names)
        if provider.get("fallback_model_providers"):
            head["fallback"] = provider.fallback_model_providers
        heads.append(head)

    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    version = f"genai-prices-{genai_version}+litellm-{litellm_version}"
    with open(out_json, "w", encoding="utf-8", newline="\n") as out:
        out.write("{\n")
        out.write(f'"version":{dump(version)},\n"as_of":{dump(as_of)},\n')
        out.write(f'"unit":{dump("nano-dollars for a million tokens, searches, containers or requests")},\n')
        out.write('"providers":[\n' + ",\n".join(map(dump, heads)) + "\n],\n")
        out.write('"models":[\n' + ",\n".join(map(dump, models)) + "\n]\n}\n")

    # The rules' own examples, and what the source's rules make of them.
    priced = {(line["provider"], line["model"]) for line in models}
    rows = set()
    for provider in providers:
        examples = [name for model in provider.models for name in literals(model.match)]
        if provider.id in ADDED:
            # And the names that the other source has.
            kinds, modes = LITELLM[provider.id][0], ("chat", "responses")
            examples += [key for key, entry in litellm.items() if entry.get("litellm_provider") in kinds and entry.get("mode") in modes]
        for name in examples:
            # The rules take these for models of other regions, which are cheaper.
            if name and not name.startswith("us-gov."):
                found = find(provider, name, by_id)
                answer = "–\t–"
                if found is not None and (found[0].id, found[1].id) in priced:
                    answer = f"{found[0].id}\t{found[1].id}"
                elif found is None:
                    continue
                rows.add(f"{provider.id}\t{name}\t{answer}")
    with open(out_tsv, "w", encoding="utf-8", newline="\n") as out:
        out.write("".join(row + "\n" for row in sorted(rows)))

    write_page(
        out_md, genai_version, litellm_version, as_of, heads, models, compared, differences, windows, added, unpriced, notes
    )


def write_page(path, genai, litellm, as_of, heads, models, compared, differences, windows, added, unpriced, notes):
    count = {}
    for line in models:
        count[line["provider"]] = count.get(line["provider"], 0) + 1
    out = PAGE_HEAD.format(
        genai=genai,
        litellm=litellm,
        as_of=as_of,
        models=len(models),
        providers=len(count),
        compared=compared,
        differences=len(differences),
        differing=len({one[0] for one in differences}),
    )
    table = lambda head, rows: (
        "| " + " | ".join(head) + " |\n|" + "---|" * len(head) + "\n" + "".join("| " + " | ".join(row) + " |\n" for row in rows)
    )
    out += "\n## Where the sources disagree\n\n"
    out += (
        f"Prices as of {as_of}, in dollars for a million tokens, of models that both list under the same name. "
        "The first figure is used.\n\n"
    )
    out += table(
        ["model", "price", "genai-prices", "litellm"],
        [[f"`{name}`", what, dollars(a), dollars(b)] for name, what, a, b in differences],
    )
    out += "\n## Taken from litellm alone\n\n"
    out += "Models that genai-prices does not know or does not price. Dollars for a million tokens.\n\n"
    out += table(["model", "input", "output"], [[f"`{name}`", dollars(a), dollars(b)] for name, a, b in added])
    out += "\n## Context windows that differ\n\nThe larger one is used, as it bounds what a call can cost.\n\n"
    out += table(
        ["model", "genai-prices", "litellm's name", "litellm"],
        [[f"`{name}`", str(a), f"`{key}`", str(b)] for name, a, key, b in windows],
    )
    out += "\n## Charged at the dearest\n\n"
    out += "Where the price depends on something that a call or its answer does not show.\n\n"
    out += "".join(f"- {note}\n" for note in sorted(set(notes)))
    out += f"\n## Without a price\n\nListed by genai-prices without a figure ({len(unpriced)}), so they are refused:\n\n"
    out += ", ".join(f"`{name}`" for name in unpriced) + ".\n"
    out += "\n## Models by provider\n\n"
    out += table(["provider", "models"], [[f"`{head['id']}`", str(count[head["id"]])] for head in heads if head["id"] in count])
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(out)


PAGE_HEAD = """\
<!-- Written by `cargo xtask prices`. Change xtask/python/prices.py instead. -->

# Prices

What a call costs is read from a table that is compiled in, `crates/leash-budget/data/prices.json`: {models} models of
{providers} providers. `cargo xtask prices` makes it from two Python packages, both under the MIT licence:

| source | version | what is taken |
|---|---|---|
| genai-prices | {genai} | every price, every rule by which a name finds its model, context windows |
| litellm | {litellm} | the most tokens a model answers with, context windows, and models of Anthropic and OpenAI that the other does not know |

Both names and versions are the table's version, which every `model_call` in the log carries as `price_version`. A table
that you changed says `+custom` after it.

## How a price is found

1. Prices of your own, by name.
2. The table, by the exact name of a model; then by the source's rules, in its order; then, where the provider serves the
   models of another (Azure those of OpenAI), by that one's.
3. The same again for the name without what stands around it: the provider's prefix (`openai/gpt-4o`), an ARN of Bedrock,
   its region (`jp.` is priced as `us.`), `-latest`, or the date at its end.
4. Your ceiling for the model, then for its provider, then for every provider.

What is left has no price, and the call is refused. The rules are narrower than the source's in one thing: where a rule
asks only how a name begins or what is in it, what follows may be a version, a date, `latest`, `preview`, `exp`, `beta`,
`it`, `instruct` or `chat`, and nothing else. So `claude-haiku-4-5-20251001` is found and `claude-haiku-4-5-turbo` is not: a
dearer model would else be charged as its cheaper namesake. A fine-tuned model is found only by a rule that says `ft:`,
and is refused where the source has none. A model in AWS's regions for governments (`us-gov.`, or an ARN of `aws-us-gov`) is dearer
than elsewhere, which the source's rules do not tell apart: it has the price that litellm lists for it, or none.

The date matters: a price may begin on a day, and a few hold only from one hour to another. Both are UTC.

## How it is charged

Prices are whole nano-dollars for a million units (figures finer than that are rounded up), the sum is exact, and it is
rounded up to a nano-dollar once per call. A kind of token that has no price of its own has that of the kind it belongs
to: audio that of input, what is written to a cache that of input, an hour's that of five minutes. Above a tier's number
of input tokens, cached ones included, its prices hold for all tokens of the call. A call in a service tier (`priority`,
`flex`, `batch`, `fast`) has that tier's prices; in one that the table does not price, the dearest it knows.

Inference in one country costs more: Anthropic adds a tenth to every token where the answer says that it was served in one
(`inference_geo`). Since a workspace may ask for that without the request saying so, the bound of a call to Anthropic counts
the tenth in, unless the request says `"inference_geo": "global"`.

Nothing is free by omission. A model that is listed without a figure (the `:free` ones) has no price, because what is free
today ends some day without anybody telling the table; give it one yourself (`"input": 0, "output": 0`) if you know better. Models that
are billed by what a chat does not count (seconds of audio, pages, characters, frames) are known and refused as well.

OpenAI adds a tenth to every token of its newer models at the hosts that process in one region (`eu.api.openai.com`); that
is in the bound and in the cost of calls to them.

A model that another one may ask for advice (`advisor_20260301`) is billed at its own price, which the bound counts for as often
as it may be asked, and the cost for what the answer says that it used. A container in which the provider runs code costs
what it costs for the shortest time it is sold for, with Anthropic an hour; where a tool for the web includes it, nothing.

A tool that the provider runs and that is neither a search nor code, and a member of a request that is not known here, has no
price in any list. Such a call is refused, unless you say how often at most (`max_server_tool_uses`) and what each use costs
(`"other_tool"`, in the prices of the model). Requests that name other models to answer instead (`fallbacks`, `models`) are
refused.

A search on the web costs what the dearer of the sources says, or what OpenAI's search in preview costs, because the answer
does not tell which kind it was; where a model has no price for it, it has that of the provider's dearest model.

## Prices of your own

A file, given as `llm-leash price --prices FILE` or read with `PriceTable::with_file`. An amount is a string in dollars or a
whole number of nano-dollars, both for a million units:

```json
{{
  "models": [
    {{"provider": "acme", "model": "tiny", "context_window": 32000, "max_output_tokens": 4096,
     "prices": [{{"input": "0.10", "output": "0.40"}}, {{"from": "2027-01-01", "input": "0.20", "output": "0.80"}}]}}
  ],
  "ceilings": [
    {{"provider": "openrouter", "context_window": 200000, "max_output_tokens": 64000, "input": "20", "output": "100"}}
  ],
  "deployments": [
    {{"provider": "azure", "name": "my-gpt", "is": "openai/gpt-4o"}}
  ]
}}
```

The amounts of a model are `input`, `output`, `reasoning`, `cache_read`, `cache_write`, `cache_write_1h`, `input_audio`, `input_image`,
`cache_read_audio`, `cache_read_image`, `output_audio`, `output_image`, `request`, `web_search`, `file_search`, `code_execution` and
`other_tool`; a search that costs a cent is written `"10000"`, as all are for a million. `tiers` and `service_tiers` have the same,
`from` and `daily` say when.

In code: `with_price`, `with_ceiling`, `with_model_ceiling`, `with_deployment`.

## How far the sources agree

{compared} models were compared; {differing} of them differ in {differences} figures. Where they differ, genai-prices is
used: it has the prices of each day, which litellm has not, and its file says where each comes from.
"""


if __name__ == "__main__":
    main()
