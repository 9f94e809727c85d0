//! Signed logs: what a key shows that the chain cannot.

use hmac::{KeyInit as _, Mac as _};
use leash_audit::{
    AuditError, AuditLog, Event, HmacKey, HmacKeys, Kind, Other, Verdict, VerifyOptions, Who, verify_reader,
};
use leash_core::{Digest, Json};
use proptest::prelude::*;
use std::fmt::Write as _;

use crate::{check, kill, lines, model_call, refusal};

fn key(id: &str, secret: &str) -> HmacKey {
    HmacKey::new(id, secret.as_bytes()).unwrap()
}

/// The HMAC with the key `secret`, by another road than the log takes.
fn mac_of(text: &str) -> String {
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"secret").unwrap();
    mac.update(text.as_bytes());
    let mut hex = String::new();
    for byte in mac.finalize().into_bytes() {
        write!(hex, "{byte:02x}").unwrap();
    }
    hex
}

fn verdict(log: &[u8], keys: &HmacKeys) -> Result<u64, String> {
    let options = VerifyOptions {
        keys: Some(keys),
        ..VerifyOptions::default()
    };
    let report = verify_reader(log, &options).unwrap();
    match report.verdict {
        Verdict::Ok => Ok(report.events),
        Verdict::Broken(broken) => Err(broken.to_string()),
    }
}

/// A log of one event of each shape, signed with `key`.
fn signed(key: Option<HmacKey>) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    append_all(&path, key);
    (dir, path)
}

fn append_all(path: &std::path::Path, key: Option<HmacKey>) {
    let mut builder = AuditLog::builder(path);
    if let Some(key) = key {
        builder = builder.hmac(key);
    }
    let log = builder.open().unwrap();
    let _ = log.append(&kill("naïve \"reason\"\n")).unwrap();
    let _ = log.append(&model_call(7)).unwrap();
    for _ in 0..3 {
        let _ = log.append_coalesced(&refusal("r")).unwrap();
    }
    let members = Json::parse(r#"{"a":1,"hm":2,"hmab":3,"hn":4,"z":[{"hmac":"x"}]}"#).unwrap();
    let other = Other {
        kind: "custom",
        members: &members,
    };
    let _ = log
        .append(&Event::new(Who::session("s"), Kind::Other(other)))
        .unwrap();
    let slot = log.reserve_slot().unwrap();
    let _ = log.append_owed(slot, &model_call(9)).unwrap();
    log.close().unwrap();
}

/// Made by hand: every line again, without `hash` and `hmac`.
#[test]
fn the_hmac_is_over_the_line_without_hash_and_hmac() {
    let (_dir, path) = signed(Some(key("k-1", "secret")));
    for mut line in lines(&path) {
        let members = line.as_object_mut().unwrap();
        let hash = members.remove("hash").unwrap();
        let mut text = String::new();
        leash_core::canonical::write_value(&mut text, &serde_json::Value::Object(members.clone()));
        assert_eq!(
            hash,
            Digest::of(text.as_bytes()).to_string(),
            "the hash is over the hmac too"
        );
        let stored = members.remove("hmac").unwrap();
        assert_eq!(members["hmac_key_id"], "k-1");
        text.clear();
        leash_core::canonical::write_value(&mut text, &serde_json::Value::Object(members.clone()));
        let hex = mac_of(&text);
        assert_eq!(stored, hex);
    }
}

#[test]
fn a_signed_log_verifies_with_its_key_and_without_any() {
    let (_dir, path) = signed(Some(key("k1", "secret")));
    let log = std::fs::read(&path).unwrap();
    let plain = check(&log);
    assert!(plain.is_ok(), "{plain}");
    let right = HmacKeys::new().with(key("k1", "secret"));
    assert_eq!(verdict(&log, &right), Ok(plain.events));
    let fallback = HmacKeys::new().with_fallback(b"secret").unwrap();
    assert_eq!(verdict(&log, &fallback), Ok(plain.events));

    let refused = |keys: &HmacKeys, what: &str| {
        let broken = verdict(&log, keys).unwrap_err();
        assert!(
            broken.starts_with("line 1 (seq 0): ") && broken.contains(what),
            "{broken}"
        );
        assert!(!broken.contains("secret"));
    };
    refused(&HmacKeys::new().with(key("k1", "other")), "does not fit");
    refused(
        &HmacKeys::new().with(key("k2", "secret")),
        "unknown key: no key with the id `k1`",
    );
    refused(&HmacKeys::new(), "unknown key");
    refused(&HmacKeys::new().with_fallback(b"other").unwrap(), "does not fit");
}

#[test]
fn a_line_without_hmac_is_broken_where_keys_are_demanded() {
    let (_dir, path) = signed(None);
    let keys = HmacKeys::new().with(key("k1", "secret"));
    let broken = verdict(&std::fs::read(&path).unwrap(), &keys).unwrap_err();
    assert!(broken.contains("there is no `hmac`"), "{broken}");

    // Signed at first, and then no longer: the first line without is named.
    let (_dir, path) = signed(Some(key("k1", "secret")));
    let signed_lines = lines(&path).len();
    append_all(&path, None);
    let broken = verdict(&std::fs::read(&path).unwrap(), &keys).unwrap_err();
    assert!(
        broken.starts_with(&format!("line {} ", signed_lines + 1)),
        "{broken}"
    );
}

#[test]
fn after_a_rotation_both_keys_verify_the_log() {
    let (_dir, path) = signed(Some(key("old", "secret 1")));
    append_all(&path, Some(key("new", "secret 2")));
    let log = std::fs::read(&path).unwrap();
    let both = HmacKeys::new()
        .with(key("old", "secret 1"))
        .with(key("new", "secret 2"));
    assert_eq!(verdict(&log, &both), Ok(check(&log).events));
    assert!(both.ids().eq(["old", "new"]));
    assert!(
        verdict(&log, &HmacKeys::new().with(key("old", "secret 1")))
            .unwrap_err()
            .contains("`new`")
    );
}

/// Lines may leave out which key they were signed with; then every key without an id is as good as another.
#[test]
fn of_several_keys_without_an_id_each_is_tried() {
    let (_dir, path) = signed(Some(key("old", "secret 1")));
    append_all(&path, Some(key("new", "secret 2")));
    let log = std::fs::read(&path).unwrap();
    let with = |secrets: &[&str]| {
        let all = secrets.iter().fold(HmacKeys::new(), |keys, secret| {
            keys.with_fallback(secret.as_bytes()).unwrap()
        });
        verdict(&log, &all)
    };
    assert_eq!(with(&["secret 1", "secret 2"]), Ok(check(&log).events));
    assert_eq!(
        with(&["secret 2", "secret 3", "secret 1"]),
        Ok(check(&log).events)
    );
    let broken = with(&["secret 3", "secret 1"]).unwrap_err();
    assert!(broken.contains("none of these keys"), "{broken}");
    assert!(
        with(&["secret 1"])
            .unwrap_err()
            .contains("not made with this key")
    );
    // A key that a line names is the only one that it may be signed with.
    let named = HmacKeys::new()
        .with(key("old", "secret 2"))
        .with_fallback(b"secret 1")
        .unwrap();
    assert!(verdict(&log, &named).unwrap_err().starts_with("line 1 "));
}

/// The attack that the chain alone does not show: change a line, and write all hashes after it anew.
#[test]
fn a_log_that_was_written_anew_does_not_verify() {
    let (_dir, path) = signed(Some(key("k1", "secret")));
    let mut prev = Digest::ZERO.to_string();
    let mut forged = Vec::new();
    for mut line in lines(&path) {
        let members = line.as_object_mut().unwrap();
        members.remove("hash");
        if members["kind"] == "model_call" {
            members.insert("cost_usd".to_owned(), serde_json::json!(0.0));
        }
        members.insert("prev_hash".to_owned(), prev.into());
        let mut text = String::new();
        leash_core::canonical::write_value(&mut text, &line);
        prev = Digest::of(text.as_bytes()).to_string();
        line.as_object_mut()
            .unwrap()
            .insert("hash".to_owned(), prev.clone().into());
        text.clear();
        leash_core::canonical::write_value(&mut text, &line);
        forged.extend_from_slice(text.as_bytes());
        forged.push(b'\n');
    }
    assert!(check(&forged).is_ok());
    let keys = HmacKeys::new().with(key("k1", "secret"));
    let broken = verdict(&forged, &keys).unwrap_err();
    assert!(
        broken.starts_with("line 2 (seq 1): ") && broken.contains("hmac"),
        "{broken}"
    );
}

#[test]
fn no_event_brings_an_hmac_of_its_own() {
    let (_dir, path) = signed(None);
    let log = AuditLog::builder(&path).hmac(key("k1", "secret")).open().unwrap();
    for name in ["hash", "hmac", "hmac_key_id"] {
        let members = Json::parse(format!("{{\"{name}\":\"x\"}}")).unwrap();
        let other = Other {
            kind: "custom",
            members: &members,
        };
        let result = log.append(&Event::new(Who::session("s"), Kind::Other(other)));
        assert!(matches!(result, Err(AuditError::Event(_))), "{name}");
    }
}

proptest! {
    /// Lines of others, with the two members in any company.
    #[test]
    fn any_line_that_is_signed_verifies(names in proptest::collection::btree_set("[a-z_\"\\\\\n]{1,6}", 0..6), id in "[a-z]{1,3}") {
        let mut members = serde_json::Map::new();
        for name in names.iter().filter(|name| !["hash", "hmac", "seq"].contains(&name.as_str())) {
            members.insert(name.clone(), serde_json::json!(name));
        }
        members.insert("seq".to_owned(), 0.into());
        members.insert("prev_hash".to_owned(), Digest::ZERO.to_string().into());
        members.insert("hmac_key_id".to_owned(), id.clone().into());
        for last in [false, true] {
            let mut members = members.clone();
            if last {
                // Nothing comes after the two: what is cut out is the end.
                members.retain(|name, _| name.as_str() < "hash");
                prop_assume!(!members.is_empty());
            }
            let text = |members: &serde_json::Map<String, serde_json::Value>| {
                let mut text = String::new();
                leash_core::canonical::write_value(&mut text, &serde_json::Value::Object(members.clone()));
                text
            };
            let hex = mac_of(&text(&members));
            members.insert("hmac".to_owned(), hex.into());
            let hash = Digest::of(text(&members).as_bytes()).to_string();
            members.insert("hash".to_owned(), hash.into());
            let line = format!("{}\n", text(&members));
            let keys = HmacKeys::new().with_fallback(b"secret").unwrap();
            let broken = verdict(line.as_bytes(), &keys);
            if last {
                // It lacks its place in the chain, which is what is said first.
                prop_assert!(broken.unwrap_err().contains("prev_hash"));
            } else {
                prop_assert_eq!(broken, Ok(1));
            }
            let changed = line.replacen(&id, "zzzz", 1);
            prop_assert!(verdict(changed.as_bytes(), &keys).is_err());
        }
    }
}
