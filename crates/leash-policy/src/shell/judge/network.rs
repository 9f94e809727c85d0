//! What goes to other machines and to containers, and what comes from there.

use super::{HOST, READS, REVERSE, Result, SENDS, canonical, has_flag, has_long, option};
use crate::shell::expand::mark;
use crate::shell::machine::Machine;
use crate::shell::marks;
use crate::shell::paths;

impl Machine<'_> {
    /// An interactive shell whose streams are the network.
    pub(in crate::shell) fn judge_redirected_shell(
        &mut self,
        argv: &[String],
        redirects: &[crate::shell::syntax::Redirect],
    ) -> Result<()> {
        for redirect in redirects {
            if redirect.op == crate::shell::syntax::RedirectOp::Text {
                continue;
            }
            let target = self.text(&redirect.target)?;
            if target.starts_with("/dev/tcp/") || target.starts_with("/dev/udp/") {
                let host = target.split('/').nth(3).unwrap_or("");
                let shell = argv.iter().any(|word| canonical(word) == "sh" || word == "exec");
                if shell || !matches!(host, "localhost" | "127.0.0.1" | "::1" | "0.0.0.0") {
                    return Err(REVERSE);
                }
            }
        }
        Ok(())
    }

    pub(super) fn judge_transfer(&mut self, program: &str, args: &[String], input: &str) -> Result<()> {
        let local = args.iter().any(|arg| {
            let rest = arg.split_once("://").map_or(arg.as_str(), |(_, rest)| rest);
            [
                "localhost",
                "127.0.0.1",
                "[::1]",
                "0.0.0.0",
                "host.docker.internal",
            ]
            .iter()
            .any(|host| rest.starts_with(host))
        });
        if args.iter().any(|arg| {
            let rest = arg.split_once("://").map_or(arg.as_str(), |(_, rest)| rest);
            let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
            let host = authority.rsplit('@').next().unwrap_or("");
            let host = if host.starts_with('[') {
                host.split_inclusive(']').next().unwrap_or(host)
            } else {
                host.split(':').next().unwrap_or(host)
            };
            arg.contains("://") && crate::net::is_metadata(host)
        }) {
            return Err(READS);
        }
        if args.iter().any(|arg| {
            arg.contains("169.254.169.254")
                || arg.contains("metadata.google.internal")
                || arg.contains("fd00:ec2::254")
                || arg.contains("169.254.170.2")
        }) {
            return Err(READS);
        }
        if args.iter().any(|arg| {
            arg.starts_with("file:///")
                && (self.is_private(arg.trim_start_matches("file://"))
                    || paths::is_vital(arg.trim_start_matches("file://"), ""))
        }) {
            return Err(READS);
        }
        let mut sent: Vec<String> = Vec::new();
        let mut headers: Vec<&str> = Vec::new();
        let mut rest = args.iter().peekable();
        while let Some(arg) = rest.next() {
            const DATA: [&str; 15] = [
                "-d",
                "--data",
                "--data-binary",
                "--data-raw",
                "--data-urlencode",
                "--data-ascii",
                "-F",
                "--form",
                "-T",
                "--upload-file",
                "--post-file",
                "--body-file",
                "--post-data",
                "--json",
                "--form-string",
            ];
            if matches!(
                arg.as_str(),
                "-H" | "--header" | "-u" | "--user" | "-A" | "-b" | "-e"
            ) {
                headers.extend(rest.next().map(String::as_str));
            } else if matches!(
                arg.as_str(),
                "-w" | "--write-out"
                    | "-o"
                    | "--output"
                    | "-X"
                    | "--request"
                    | "-m"
                    | "--max-time"
                    | "-D"
                    | "--dump-header"
            ) && program == "curl"
            {
                // Written here, not sent.
                rest.next();
            } else if DATA.contains(&arg.as_str()) {
                if let Some(value) = rest.next() {
                    sent.push(if matches!(arg.as_str(), "-T" | "--upload-file") {
                        format!("@{value}")
                    } else {
                        value.clone()
                    });
                }
            } else if let Some((name, value)) = arg.split_once('=')
                && DATA.contains(&name)
            {
                sent.push(if name.ends_with("file") {
                    format!("@{value}")
                } else {
                    value.to_owned()
                });
            } else if !arg.starts_with("--")
                && arg.len() > 2
                && (arg.starts_with("-d") || arg.starts_with("-F"))
                && program == "curl"
            {
                sent.push(arg.get(2..).unwrap_or("").to_owned());
            } else if !arg.starts_with("--") && arg.len() > 2 && arg.starts_with("-T") && program == "curl" {
                sent.push(format!("@{}", arg.get(2..).unwrap_or("")));
            } else if !arg.starts_with('-')
                && arg.contains([marks::OUTPUT, marks::SENSITIVE, marks::FILE])
                && !local
            {
                // In the address itself. A version that was looked up before is an everyday thing.
                // An address that is a line of a file comes from a list of them.
                let listed = arg.chars().all(|c| c == marks::FILE);
                if arg.contains([marks::SENSITIVE, marks::FILE]) && !listed
                    || arg.find(marks::is).is_some_and(|at| {
                        at > 0
                            && (arg.contains('?')
                                || !arg.get(..at).is_some_and(|head| head.matches('/').count() > 2))
                    })
                {
                    return Err(SENDS);
                }
            } else if !arg.starts_with("--")
                && arg.len() > 2
                && arg.starts_with('-')
                && matches!(arg.chars().last(), Some('d' | 'F' | 'T'))
                && program == "curl"
            {
                // A cluster whose last letter takes the data.
                if let Some(value) = rest.next() {
                    sent.push(if arg.ends_with('T') {
                        format!("@{value}")
                    } else {
                        value.clone()
                    });
                }
            }
        }
        if headers.iter().any(|header| {
            let lower = header.to_ascii_lowercase();
            header.contains(marks::SENSITIVE)
                && !["authorization", "token", "key", "secret"]
                    .iter()
                    .any(|name| lower.contains(name))
        }) {
            return Err(SENDS);
        }
        if headers.iter().any(|header| {
            header.contains([marks::FILE])
                && !header.contains("uthorization")
                && !header.contains("oken")
                && !header.contains(':')
        }) {
            return Err(SENDS);
        }
        for data in &sent {
            // What it is given directly.
            if !local && data.contains([marks::SENSITIVE, marks::FILE, marks::OUTPUT]) {
                return Err(SENDS);
            }
            for part in data.split(';').flat_map(|part| {
                part.split_once('@')
                    .map(|(_, file)| file)
                    .into_iter()
                    .chain(part.split_once("=<").map(|(_, file)| file))
            }) {
                let part = part.trim_matches('"');
                if matches!(part, "-" | "." | "/dev/stdin") {
                    if input.contains(marks::SENSITIVE) || (!local && input.contains(marks::OUTPUT)) {
                        return Err(SENDS);
                    }
                } else if let Some(content) = self.files.get(&self.file_name(part)) {
                    if content.contains(marks::SENSITIVE) || (!local && content.contains(marks::OUTPUT)) {
                        return Err(SENDS);
                    }
                } else if self.is_private(part) {
                    return Err(SENDS);
                }
            }
        }
        // What is written down.
        let output = if program == "wget" {
            option(args, "-O", "--output-document")
        } else {
            option(args, "-o", "--output")
        };
        let cluster = args.windows(2).find_map(|pair| match pair {
            [flags, file]
                if flags.starts_with('-')
                    && !flags.starts_with("--")
                    && flags.len() > 2
                    && flags.ends_with(if program == "wget" { 'O' } else { 'o' }) =>
            {
                Some(file.as_str())
            }
            _ => None,
        });
        let glued = (program == "wget")
            .then(|| {
                args.iter().find_map(|arg| {
                    let (flags, file) = arg.strip_prefix('-')?.split_once('O')?;
                    (flags.len() < 6
                        && flags.bytes().all(|byte| byte.is_ascii_lowercase())
                        && !file.is_empty())
                    .then_some(file)
                })
            })
            .flatten();
        let folder = match program {
            "wget" => option(args, "-P", "--directory-prefix"),
            "aria2c" => option(args, "-d", "--dir"),
            _ => option(args, "", "--output-dir"),
        };
        let named = output
            .or(cluster)
            .or(glued)
            .filter(|path| *path != "-")
            .map(|path| match folder {
                Some(folder) if !path.starts_with('/') && program != "wget" => {
                    format!("{}/{path}", folder.trim_end_matches('/'))
                }
                _ => path.to_owned(),
            });
        let by_url = named.is_none()
            && (program == "aria2c"
                || program == "wget"
                    && !args
                        .iter()
                        .any(|arg| arg.ends_with("O-") || arg == "-O" || arg == "--output-document=-")
                || program == "curl" && (has_flag(args, 'O') || has_long(args, "--remote-name")));
        if let Some(path) = named {
            self.write(&path, mark(marks::NETWORK), false)?;
        } else if by_url {
            for arg in args
                .iter()
                .filter(|arg| !arg.starts_with('-') && arg.contains('/'))
            {
                let name = arg
                    .split(['?', '#'])
                    .next()
                    .unwrap_or("")
                    .rsplit('/')
                    .next()
                    .unwrap_or("")
                    .to_owned();
                if !name.is_empty() {
                    let path = match folder {
                        Some(folder) => format!("{}/{name}", folder.trim_end_matches('/')),
                        None => name,
                    };
                    self.write(&path, mark(marks::NETWORK), false)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn judge_net(&mut self, program: &str, args: &[String], input: &str) -> Result<()> {
        if program == "socat" {
            for arg in args {
                let upper = arg.to_ascii_uppercase();
                if upper.starts_with("EXEC:") || upper.starts_with("SYSTEM:") || upper.starts_with("SHELL:") {
                    return Err(REVERSE);
                }
                if (upper.starts_with("FILE:") || upper.starts_with("OPEN:") || upper.starts_with("GOPEN:"))
                    && arg
                        .split_once(':')
                        .is_some_and(|(_, path)| self.is_private(path.split(',').next().unwrap_or("")))
                {
                    return Err(SENDS);
                }
            }
        }
        if program == "nc"
            && (has_flag(args, 'e')
                || has_flag(args, 'c') && !has_flag(args, 'z')
                || ["--exec", "--sh-exec", "--lua-exec"]
                    .iter()
                    .any(|long| has_long(args, long)))
        {
            return Err(REVERSE);
        }
        let local = args
            .iter()
            .any(|arg| matches!(arg.as_str(), "localhost" | "127.0.0.1" | "::1"));
        if !local && input.contains([marks::SENSITIVE, marks::FILE, marks::OUTPUT]) && !has_flag(args, 'z') {
            return Err(SENDS);
        }
        Ok(())
    }

    /// A pod that is given the machine's files, its processes or all rights.
    pub(super) fn judge_pod(args: &[String]) -> Result<()> {
        for arg in args.iter().filter(|arg| arg.starts_with("--overrides")) {
            let plain = arg.replace([' ', '"'], "");
            if plain.contains("hostPID:true")
                || plain.contains("privileged:true")
                || plain.contains("hostPath:{path:/}")
            {
                return Err(HOST);
            }
        }
        Ok(())
    }

    pub(super) fn judge_docker(&mut self, args: &[String]) -> Result<()> {
        let host_processes = args.iter().any(|arg| arg == "--pid=host")
            || args
                .windows(2)
                .any(|pair| matches!(pair, [flag, value] if flag == "--pid" && value == "host"));
        if args.iter().any(|arg| arg == "--privileged") && host_processes {
            return Err(HOST);
        }
        for (at, arg) in args.iter().enumerate() {
            let volume = if matches!(arg.as_str(), "-v" | "--volume" | "--mount") {
                args.get(at.saturating_add(1)).map(String::as_str)
            } else {
                arg.strip_prefix("--volume=")
                    .or_else(|| arg.strip_prefix("--mount="))
                    .or_else(|| arg.strip_prefix("-v"))
            };
            if let Some(volume) = volume {
                let source = volume
                    .split(',')
                    .find_map(|part| part.strip_prefix("source=").or_else(|| part.strip_prefix("src=")))
                    .unwrap_or_else(|| volume.split(':').next().unwrap_or(""));
                let clean = paths::Path::new(source);
                if clean.absolute && clean.parts.is_empty()
                    || matches!(clean.parts.first(), Some(&("etc" | "boot")))
                        && clean.absolute
                        && clean.parts.len() == 1
                    || paths::is_credential(source, "")
                {
                    return Err(HOST);
                }
            }
        }
        Ok(())
    }
}
