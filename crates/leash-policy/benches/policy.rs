//! What the rules cost a call: a statement of 1 KB, fifty patterns over 1 and 2 KB, and the worst that limits let through.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use leash_core::{Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
use leash_policy::{BlockedPatterns, rule_from_options};

fn call(args: serde_json::Value) -> Call {
    let caller = Caller::session(SessionId::new("s").unwrap());
    Call::Tool(ToolCall::new("tool", args, caller))
}

fn statement(bytes: usize) -> String {
    let mut sql = String::from(
        "SELECT u.id, u.name, count(o.id) AS orders, sum(o.total) FILTER (WHERE o.status = 'paid') AS paid FROM users u \
         LEFT JOIN orders o ON o.user_id = u.id AND o.created_at >= now() - interval '30 days' WHERE u.active",
    );
    while sql.len() < bytes {
        sql.push_str(" AND (u.region = 'eu-west' OR u.plan IN ('free', 'team', 'enterprise'))");
    }
    sql.push_str(" GROUP BY u.id, u.name ORDER BY orders DESC LIMIT 10");
    sql
}

fn ask(criterion: &mut Criterion, id: &str, rule: &Arc<dyn Rule>, args: serde_json::Value) {
    let call = call(args);
    let context = PolicyContext::new(Timestamp::EPOCH);
    criterion.bench_function(id, |bencher| {
        bencher.iter(|| black_box(rule.evaluate(black_box(&call), &context)));
    });
}

fn sql(criterion: &mut Criterion) {
    let rule = rule_from_options("blocked_sql", &[("dialect", "postgres")]).unwrap();
    ask(
        criterion,
        "policy/sql_1kb",
        &rule,
        serde_json::json!({"sql": statement(1000)}),
    );
    let unknown = rule_from_options("blocked_sql", &[("dialect", "unknown")]).unwrap();
    ask(
        criterion,
        "policy/sql_1kb_any_dialect",
        &unknown,
        serde_json::json!({"sql": statement(1000)}),
    );
    let worst = [
        (
            "parentheses",
            format!("SELECT {}1{}", "(".repeat(38), ")".repeat(38)),
        ),
        (
            "tables",
            format!("SELECT * FROM {}t{}", "(".repeat(38), ")".repeat(38)),
        ),
        ("open", format!("SELECT * FROM {}", "(".repeat(38))),
        ("unions", format!("SELECT 1{}", " UNION SELECT `a`".repeat(100))),
        (
            "cases",
            format!("SELECT {}1{}", "CASE WHEN 1 THEN ".repeat(40), " END".repeat(40)),
        ),
        ("list", format!("SELECT `a`, {}1", "1, ".repeat(4_900))),
        ("pieces", "SELECT `a` FROM t WHERE a = 'x' ;".repeat(1_900)),
    ];
    for (name, sql) in worst {
        ask(
            criterion,
            &format!("policy/sql_worst_{name}"),
            &unknown,
            serde_json::json!({"x": sql}),
        );
    }
}

fn patterns(criterion: &mut Criterion) {
    let patterns: Vec<String> = (0..50)
        .map(|at| match at % 5 {
            0 => format!(r"ignore (all )?previous instruction{at}"),
            1 => format!(r"\b(drop|truncate)\s+table\s+secret{at}\b"),
            2 => format!(r"sk-live-{at}[a-z0-9]{{20,}}"),
            3 => format!(r"(password|passwd|pwd){at}\s*[:=]\s*\S+"),
            _ => format!(r"internal-only-{at}\.example\.com"),
        })
        .collect();
    let rule: Arc<dyn Rule> = Arc::new(BlockedPatterns::new(&patterns).unwrap());
    let prose = "The quarterly report is due on Friday, and we still wait for the figures from Berlin. ";
    for (id, bytes) in [("policy/patterns_50_1kb", 1024), ("policy/patterns_50_2kb", 2048)] {
        let text: String = prose.chars().cycle().take(bytes).collect();
        ask(
            criterion,
            id,
            &rule,
            serde_json::json!({"to": "a@b.example", "body": text}),
        );
    }
}

fn shell(criterion: &mut Criterion) {
    let rule = leash_policy::BlockedShell::new();
    let pipeline = "git log --since='2 weeks ago' --pretty=format:'%h %an %s' -- src | grep -v -E '^(merge|bump)' | sort -u | \
                    awk '{print $1, $2}' | head -n 50 | tee out/report.txt && wc -l < out/report.txt > out/count.txt";
    let script = include_str!("../tests/data/build.sh");
    let (half, whole) = ("dd x ".repeat(4_096), "dd x ".repeat(8_192));
    for (id, text) in [
        ("policy/shell_200b", pipeline),
        ("policy/shell_1kb", script),
        ("policy/shell_20kb_words", &half),
        ("policy/shell_40kb_words", &whole),
    ] {
        criterion.bench_function(id, |bencher| {
            bencher.iter(|| black_box(rule.judge(black_box(text))));
        });
    }
}

fn content(criterion: &mut Criterion) {
    let prose = "The quarterly report covers budgets, plans and risks; 3 items remain open, see section 12. ";
    let clean: String = prose.chars().cycle().take(2048).collect();
    let hits = clean.replacen(
        "risks",
        "jane@example.org +44 20 7946 0958 4111 1111 1111 1111",
        3,
    );
    let pii = leash_policy::PiiRedactor::new();
    let secrets = leash_policy::SecretsRule::new();
    criterion.bench_function("policy/pii_2kb", |bencher| {
        bencher.iter(|| black_box(pii.redacted(black_box(&clean))));
    });
    criterion.bench_function("policy/pii_2kb_hits", |bencher| {
        bencher.iter(|| black_box(pii.redacted(black_box(&hits))));
    });
    criterion.bench_function("policy/secrets_2kb", |bencher| {
        bencher.iter(|| black_box(secrets.scan(black_box(&clean))));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_millis(800));
    targets = sql, patterns, shell, content
}
criterion_main!(benches);
