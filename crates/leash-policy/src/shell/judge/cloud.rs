//! Command lines of clouds, clusters and databases: what they destroy, show and open.

use super::{DESTROYS, DISARMS, OPENS, PERSISTS, READS, Result, SENDS, STOPS, has_long, operands};
use crate::shell::machine::Machine;
use crate::shell::marks;

impl Machine<'_> {
    /// What lies in a cloud or a database is lost as files are.
    pub(super) fn judge_cloud(&self, program: &str, args: &[String]) -> Result<()> {
        if args.is_empty() || !is_cloud(program) {
            return Ok(());
        }
        let words = operands(args, "");
        let has = |word: &str| words.contains(&word);
        let follows = |first: &str, second: &str| {
            words
                .windows(2)
                .any(|pair| matches!(pair, [a, b] if *a == first && *b == second))
        };
        // `-h` names the host for some.
        let host = matches!(
            program,
            "psql"
                | "mysql"
                | "mariadb"
                | "mongo"
                | "mongosh"
                | "redis-cli"
                | "mysqladmin"
                | "dropdb"
                | "clickhouse-client"
                | "cqlsh"
                | "sqlcmd"
        );
        let rehearsed = !(host && args.len() > 1)
            && [
                "--dry-run",
                "--dryrun",
                "--help",
                "-h",
                "help",
                "--what-if",
                "--whatif",
            ]
            .iter()
            .any(|name| {
                args.iter().any(|arg| {
                    arg == name || arg.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
                })
            });
        if rehearsed {
            return Ok(());
        }
        match program {
            "aws" => {
                if follows("s3", "rb") && has_long(args, "--force")
                    || follows("s3", "rm") && has_long(args, "--recursive") && names_bucket(args)
                    || words.iter().any(|word| is_aws_loss(word))
                {
                    return Err(DESTROYS);
                }
                if words.iter().any(|word| word.starts_with("get-parameter"))
                    && has_long(args, "--with-decryption")
                    || has("get-password-data")
                {
                    return Err(READS);
                }
                if has("stop-logging")
                    || has("delete-trail")
                    || has("delete-detector")
                    || has("delete-flow-logs")
                {
                    return Err(DISARMS);
                }
                // Everybody may come in, to log in or to everything.
                if has("authorize-security-group-ingress")
                    && args
                        .iter()
                        .any(|arg| arg.contains("0.0.0.0/0") || arg.contains("::/0"))
                {
                    let port = super::option(args, "", "--port").unwrap_or("");
                    let protocol = super::option(args, "", "--protocol").unwrap_or("");
                    if matches!(
                        port,
                        "22" | "3389"
                            | "3306"
                            | "5432"
                            | "6379"
                            | "27017"
                            | "0-65535"
                            | "1-65535"
                            | "-1"
                            | "all"
                    ) || matches!(protocol, "-1" | "all")
                    {
                        return Err(OPENS);
                    }
                }
                if has("create-access-key") || has("create-login-profile") {
                    return Err(PERSISTS);
                }
                let public = args
                    .iter()
                    .any(|arg| arg.contains("public-read-write") || arg.contains("AdministratorAccess"));
                let acl = args.iter().any(|arg| arg == "public-read") && has("put-bucket-acl");
                if public || acl {
                    return Err(OPENS);
                }
            }
            "gcloud" => {
                const LOST: [&str; 12] = [
                    "projects",
                    "instances",
                    "disks",
                    "clusters",
                    "databases",
                    "snapshots",
                    "backups",
                    "buckets",
                    "tables",
                    "datasets",
                    "volumes",
                    "filestore",
                ];
                if LOST.iter().any(|kind| follows(kind, "delete")) || follows("versions", "destroy") {
                    return Err(DESTROYS);
                }
                if follows("storage", "rm")
                    && args.iter().any(|arg| arg == "-r" || arg == "--recursive")
                    && names_bucket(args)
                {
                    return Err(DESTROYS);
                }
                if has("secrets") && has("access") {
                    return Err(READS);
                }
                if args.iter().any(|arg| arg.contains("allUsers"))
                    && words.iter().any(|word| word.starts_with("add-iam"))
                {
                    return Err(OPENS);
                }
            }
            "gsutil" => {
                if has("rb")
                    || has("rm")
                        && args.iter().any(|arg| arg.starts_with("-r") || arg == "-R")
                        && names_bucket(args)
                {
                    return Err(DESTROYS);
                }
                if args
                    .iter()
                    .any(|arg| arg.starts_with("allUsers:") || arg.starts_with("public-read-write"))
                {
                    return Err(OPENS);
                }
            }
            "bq" if has("rm") && args.iter().any(|arg| arg.starts_with("-r") || arg == "-rf") => {
                return Err(DESTROYS);
            }
            "az" => {
                const LOST: [&str; 14] = [
                    "group",
                    "vm",
                    "disk",
                    "db",
                    "server",
                    "account",
                    "container",
                    "aks",
                    "keyvault",
                    "cosmosdb",
                    "snapshot",
                    "secret",
                    "share",
                    "flexible-server",
                ];
                if LOST
                    .iter()
                    .any(|kind| follows(kind, "delete") || follows(kind, "purge"))
                {
                    return Err(DESTROYS);
                }
                if follows("secret", "show") || follows("secret", "download") || follows("keys", "list") {
                    return Err(READS);
                }
            }
            "vault" if follows("operator", "seal") => return Err(STOPS),
            "vault"
                if follows("secrets", "disable")
                    || follows("metadata", "delete")
                    || follows("kv", "destroy") =>
            {
                return Err(DESTROYS);
            }
            "vault"
                if follows("kv", "get")
                    || words.first() == Some(&"read")
                        && args.iter().any(|arg| {
                            arg.contains("secret") || arg.contains("creds") || arg.contains("kv/")
                        }) =>
            {
                return Err(READS);
            }
            "op" if matches!(words.first(), Some(&"read"))
                || follows("item", "get")
                || follows("document", "get") =>
            {
                return Err(READS);
            }
            "bw" if words.first() == Some(&"get") || words.first() == Some(&"export") => return Err(READS),
            "pass" | "gopass" if words.first() == Some(&"show") => return Err(READS),
            "terraform" | "tofu" | "terragrunt" | "pulumi" | "cdk" | "cdktf" => {
                let unasked = args.iter().any(|arg| {
                    let name = arg.trim_start_matches('-');
                    name.starts_with("auto-approve")
                        || matches!(name, "yes" | "y" | "f" | "force" | "non-interactive")
                });
                let some = args
                    .iter()
                    .any(|arg| arg.trim_start_matches('-').starts_with("target"));
                let destroys =
                    has("destroy") && words.first() != Some(&"plan") && words.first() != Some(&"workspace")
                        || has("apply") && args.iter().any(|arg| arg == "-destroy" || arg == "--destroy");
                if destroys && unasked && !some {
                    return Err(DESTROYS);
                }
            }
            "heroku"
                if words
                    .iter()
                    .any(|word| matches!(*word, "apps:destroy" | "pg:reset" | "addons:destroy")) =>
            {
                return Err(DESTROYS);
            }
            "fly" | "flyctl" if follows("apps", "destroy") || follows("volumes", "destroy") => {
                return Err(DESTROYS);
            }
            "redis-cli" => {
                let remote = ["-h", "-u"].iter().any(|flag| {
                    super::option(args, flag, "").is_some_and(|host| {
                        ![
                            "localhost",
                            "127.0.0.1",
                            "::1",
                            "redis://localhost",
                            "redis://127.0.0.1",
                        ]
                        .iter()
                        .any(|local| host.starts_with(local))
                    })
                });
                let says = |word: &str| words.iter().any(|other| other.eq_ignore_ascii_case(word));
                if remote && (says("flushall") || says("flushdb")) {
                    return Err(DESTROYS);
                }
                // Where a server writes its data, a key may be written.
                if says("config")
                    && says("set")
                    && (says("dir") || says("dbfilename"))
                    && words.iter().any(|word| {
                        word.contains(".ssh")
                            || word.contains("cron")
                            || word.contains("authorized_keys")
                            || word.starts_with("/etc")
                    })
                {
                    return Err(PERSISTS);
                }
            }
            "helm"
                if (has("uninstall") || has("delete"))
                    && args.iter().any(|arg| arg.contains(marks::SENSITIVE)) =>
            {
                return Err(DESTROYS);
            }
            "kubectl" | "oc" if has("delete") && args.iter().any(|arg| arg.contains(marks::SENSITIVE)) => {
                return Err(DESTROYS);
            }
            "gh" | "glab"
                if (has("gist") || has("snippet"))
                    && has("create")
                    && words.iter().any(|word| self.is_private(word)) =>
            {
                return Err(SENDS);
            }
            "gh" | "glab" if follows("repo", "delete") => return Err(DESTROYS),
            "dropdb" if words.last().is_some_and(|name| !is_scratch(name)) => return Err(DESTROYS),
            "psql" | "mysql" | "mariadb" | "mongo" | "mongosh" | "clickhouse-client" | "cqlsh" | "sqlcmd"
            | "mysqladmin" => {
                // The database may be named by its address.
                let scratch = args.iter().any(|arg| {
                    arg.contains('/') && !arg.contains(' ') && !arg.contains('(') && is_scratch_address(arg)
                });
                if !scratch && args.iter().any(|arg| drops_database(arg))
                    || program == "mysqladmin" && has("drop")
                {
                    return Err(DESTROYS);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Operations of `aws` after which data is gone.
fn is_aws_loss(word: &str) -> bool {
    matches!(
        word,
        "terminate-instances"
            | "schedule-key-deletion"
            | "delete-table"
            | "delete-bucket"
            | "delete-stack"
            | "delete-cluster"
            | "delete-volume"
            | "delete-snapshot"
            | "delete-file-system"
            | "delete-hosted-zone"
            | "delete-replication-group"
            | "delete-cache-cluster"
            | "delete-secret"
            | "delete-domain"
            | "close-account"
            | "delete-objects"
    ) || word.starts_with("delete-db-") && !word.contains("parameter") && !word.contains("subnet")
        || word.starts_with("delete-backup")
}

/// Whether an address among `args` is that of a whole bucket.
fn names_bucket(args: &[String]) -> bool {
    args.iter().any(|arg| {
        arg.split_once("://").is_some_and(|(_, rest)| {
            rest.split_once('/')
                .is_none_or(|(_, key)| matches!(key, "" | "*" | "**"))
        })
    })
}

/// Names of what is made to be thrown away.
fn is_scratch(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("--")
        || name.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| {
            matches!(
                part,
                "test"
                    | "tests"
                    | "dev"
                    | "tmp"
                    | "temp"
                    | "ci"
                    | "scratch"
                    | "sandbox"
                    | "local"
                    | "example"
                    | "demo"
            )
        })
}

/// Whether an address ends with the name of what is made to be thrown away.
fn is_scratch_address(address: &str) -> bool {
    address
        .rsplit('/')
        .next()
        .and_then(|name| name.split('?').next())
        .is_some_and(|name| !name.is_empty() && is_scratch(name))
}

/// Whether a statement drops a whole database that is none of those made for tests.
fn drops_database(statement: &str) -> bool {
    let lower = statement.to_ascii_lowercase();
    if lower.contains("dropdatabase()") {
        return true;
    }
    let words: Vec<&str> = lower
        .split(|c: char| c.is_whitespace() || matches!(c, ';' | '`' | '"'))
        .filter(|word| !word.is_empty())
        .collect();
    words.windows(3).any(|window| {
        matches!(window, ["drop", "database" | "schema", _])
            && !words
                .iter()
                .skip_while(|word| **word != "drop")
                .skip(2)
                .take(3)
                .any(|name| is_scratch(name))
    })
}

/// Whether a program is one of those that [`Machine::judge_cloud`] knows.
fn is_cloud(program: &str) -> bool {
    matches!(
        program,
        "aws"
            | "az"
            | "bq"
            | "bw"
            | "cdk"
            | "cdktf"
            | "clickhouse-client"
            | "cqlsh"
            | "dropdb"
            | "fly"
            | "flyctl"
            | "gcloud"
            | "gh"
            | "glab"
            | "gopass"
            | "gsutil"
            | "helm"
            | "heroku"
            | "kubectl"
            | "mariadb"
            | "mongo"
            | "mongosh"
            | "mysql"
            | "mysqladmin"
            | "oc"
            | "op"
            | "pass"
            | "psql"
            | "pulumi"
            | "redis-cli"
            | "sqlcmd"
            | "terraform"
            | "terragrunt"
            | "tofu"
            | "vault"
    )
}
