//! Programs that run other programs: opened, and what they run is judged.
#![expect(
    clippy::ignored_unit_patterns,
    clippy::match_same_arms,
    clippy::too_many_lines,
    clippy::unnecessary_to_owned,
    reason = "tables of programs, a line each, read best in one place"
)]

use super::code;
use super::expand::mark;
use super::judge::{has_flag, has_long, is_stdin, operands, option};
use super::machine::{Machine, Stop};
use super::marks;
use super::paths::Place;

type Result<T> = std::result::Result<T, Stop>;

/// How a wrapper's own words end and the command begins.
struct Shape {
    /// Short options that take a value.
    valued: &'static str,
    /// Long options that take the next word as their value.
    long: &'static [&'static str],
    /// Operands before the command.
    operands: usize,
    /// Whether `NAME=value` may stand before the command.
    assigns: bool,
}

const fn shape(valued: &'static str, long: &'static [&'static str], operands: usize, assigns: bool) -> Shape {
    Shape {
        valued,
        long,
        operands,
        assigns,
    }
}

fn shape_of(program: &str) -> Option<Shape> {
    Some(match program {
        "sudo" => shape(
            "ughpCcrtTDR",
            &[
                "--user", "--group", "--host", "--prompt", "--chdir", "--role", "--type", "--chroot",
            ],
            0,
            true,
        ),
        "doas" => shape("uC", &[], 0, false),
        "env" => shape("uC", &["--unset", "--chdir"], 0, true),
        "nice" => shape("n", &["--adjustment"], 0, false),
        "ionice" => shape("cnpPu", &["--class", "--classdata"], 0, false),
        "timeout" => shape("ks", &["--kill-after", "--signal"], 1, false),
        "nohup" | "setsid" | "builtin" | "fakeroot" | "unbuffer" | "caffeinate" | "catchsegv"
        | "dbus-run-session" | "busybox" | "toybox" | "setarch" | "linux32" | "linux64" | "proxychains"
        | "proxychains4" | "torsocks" | "torify" | "chronic" | "pkexec" | "rlwrap" | "sem" | "aoss"
        | "tini" | "dumb-init" | "npx" | "bunx" | "uvx" | "coproc" | "then" | "do" | "lwp-request"
        | "winpty" | "grc" => shape("pc", &["--package", "--user"], 0, false),
        "stdbuf" => shape("ioe", &["--input", "--output", "--error"], 0, false),
        "time" => shape("fo", &["--format", "--output"], 0, false),
        "chrt" => shape("TPD", &[], 1, false),
        "taskset" => shape("", &[], 1, false),
        "strace" | "ltrace" => shape("eopsPuEaIObSXnAFlx", &[], 0, false),
        "unshare" => shape("SGRw", &["--root", "--wd", "--setuid", "--setgid"], 0, false),
        "nsenter" => shape("tSGrw", &["--target", "--setuid", "--setgid"], 0, false),
        "chroot" => shape("", &["--userspec", "--groups"], 1, false),
        "runuser" => shape("ugG", &["--user", "--group"], 0, false),
        "gosu" | "su-exec" => shape("", &[], 1, false),
        "setpriv" | "firejail" | "bwrap" | "cgexec" | "numactl" | "prlimit" | "systemd-inhibit" => {
            shape("g", &["--reuid", "--regid"], 0, false)
        }
        "systemd-run" => shape(
            "ptMHu",
            &[
                "--unit",
                "--property",
                "--on-calendar",
                "--on-active",
                "--uid",
                "--gid",
                "--slice",
                "--description",
            ],
            0,
            false,
        ),
        "xvfb-run" => shape("enfs", &["--server-args", "--server-num"], 0, false),
        "exec" => shape("a", &[], 0, false),
        "flock" => shape("wE", &["--timeout", "--conflict-exit-code"], 1, false),
        "entr" => shape("", &[], 0, false),
        "hyperfine" => shape("wmMrspPLDn", &["--warmup", "--runs", "--prepare"], 0, false),
        "command" => shape("", &[], 0, false),
        "watch" => shape("nq", &["--interval"], 0, false),
        "proot" => shape("rbwqRSkm", &["--rootfs", "--bind", "--cwd"], 0, false),
        "flatpak-spawn" | "distrobox-host-exec" | "arch-chroot" => {
            shape("", &[], usize::from(program == "arch-chroot"), false)
        }
        "ifne" | "nocache" | "eatmydata" | "dotenv" => shape("f", &[], 0, false),
        "run0" => shape(
            "ugDp",
            &[
                "--user",
                "--group",
                "--unit",
                "--property",
                "--chdir",
                "--nice",
                "--slice",
                "--setenv",
                "--background",
                "--machine",
            ],
            0,
            true,
        ),
        "choom" => shape("np", &["--adjust", "--pid"], 0, false),
        "cpulimit" => shape("lpe", &["--limit", "--pid", "--exe"], 0, false),
        "trickle" => shape("duwtlnLN", &[], 0, false),
        "faketime" => shape("f", &[], 1, false),
        "daemonize" => shape("acepoElu", &[], 0, false),
        "dtach" => shape("ncAaprezE", &[], 0, false),
        "valgrind" | "rr" | "heaptrack" => shape("op", &["--output"], usize::from(program == "rr"), false),
        "gdbserver" => shape("", &[], 1, false),
        "setuidgid" | "s6-setuidgid" | "envdir" | "s6-envdir" | "envuidgid" | "lockf" | "setlock"
        | "lckdo" | "s6-setlock" | "schroot" => shape("cputn", &["--chroot", "--user"], 1, false),
        "softlimit" | "s6-softlimit" => shape("acdfhlmoprst", &[], 0, false),
        "chpst" => shape("uUbemdopfcl/", &[], 0, false),
        "with-contenv" | "tsocks" | "proxychains-ng" | "fakechroot" | "ssh-agent" | "cross-env"
        | "cross-env-shell" | "arch" | "dbus-launch" => shape("aEkPt", &[], 0, true),
        "sandbox-exec" => shape("fnpD", &[], 0, false),
        _ if program.starts_with("ld-linux") || program.starts_with("ld-musl") => shape(
            "",
            &[
                "--library-path",
                "--preload",
                "--argv0",
                "--audit",
                "--inhibit-rpath",
            ],
            0,
            false,
        ),
        _ if program.starts_with("qemu-") && !is_machine(program) => shape("LEUscdgBRpD", &[], 0, false),
        _ => return None,
    })
}

/// Whether a script's name is an address, and not that of a place that publishes modules.
fn is_foreign(name: &str) -> bool {
    name.split_once("://").is_some_and(|(scheme, rest)| {
        matches!(scheme, "http" | "https")
            && !(scheme == "https"
                && ["deno.land/", "jsr.io/", "esm.sh/"]
                    .iter()
                    .any(|host| rest.starts_with(host)))
    })
}

/// Whether a program of QEMU runs a machine or works on its disks, and no program of another processor.
fn is_machine(program: &str) -> bool {
    [
        "system", "img", "nbd", "io", "ga", "storage", "pr-", "bridge", "edid", "keymap",
    ]
    .iter()
    .any(|kind| {
        program
            .strip_prefix("qemu-")
            .is_some_and(|rest| rest.starts_with(kind))
    })
}

/// A wrapper's own options, as far as they stand together: what it runs has options of its own.
fn leading(args: &[String]) -> &[String] {
    let end = args
        .iter()
        .position(|arg| !arg.starts_with('-'))
        .unwrap_or(args.len());
    args.get(..end).unwrap_or(args)
}

/// Whether a program does nothing but run the words after its own.
pub(super) fn is_plain_wrapper(program: &str) -> bool {
    shape_of(program).is_some() && !matches!(program, "dotenv" | "busybox" | "toybox")
}

/// What remains after the wrapper's own words.
fn rest<'a>(shape: &Shape, args: &'a [String]) -> (Vec<&'a String>, &'a [String]) {
    let mut at = 0_usize;
    let mut left = shape.operands;
    let mut assigns = Vec::new();
    while let Some(arg) = args.get(at) {
        at = at.saturating_add(1);
        if arg == "--" {
            at = at.saturating_add(left);
            break;
        }
        if arg == "-" && shape.assigns {
            continue;
        }
        if arg.starts_with("--") {
            if shape.long.contains(&arg.as_str()) {
                at = at.saturating_add(1);
            }
            continue;
        }
        if arg.starts_with('-') && arg.len() > 1 {
            let valued = arg.chars().skip(1).position(|c| shape.valued.contains(c));
            if valued.is_some_and(|at| at.saturating_add(2) == arg.chars().count()) {
                at = at.saturating_add(1);
            }
            continue;
        }
        if shape.assigns && arg.find('=').is_some_and(|at| at > 0) {
            assigns.push(arg);
            continue;
        }
        if left > 0 {
            left = left.saturating_sub(1);
            continue;
        }
        at = at.saturating_sub(1);
        break;
    }
    (assigns, args.get(at..).unwrap_or(&[]))
}

/// Runs what a wrapper runs. `None` where the program is none, or runs nothing this time.
#[expect(clippy::too_many_lines, reason = "one table, a line a program")]
pub(super) fn open(
    machine: &mut Machine<'_>,
    program: &str,
    args: &[String],
    input: &str,
) -> Result<Option<String>> {
    let first = args.first().map_or("", String::as_str);
    let ran = match program {
        "sh" => shell(machine, args, input)?,
        "eval" => {
            let text = args.join(" ");
            machine.run_text(&text, input, true)?
        }
        "source" | "." => {
            let Some(path) = args.iter().find(|arg| *arg != "--") else {
                return Ok(None);
            };
            let content = if is_stdin(path) {
                input.to_owned()
            } else {
                machine.read(path)?
            };
            if path.starts_with(marks::OUTPUT) {
                machine.unknown("runs a script whose name is not known before it runs");
            }
            // An `.env` file sets variables.
            let content = content.replace(marks::SENSITIVE, mark(marks::FILE));
            machine.run_text(&content, input, true)?
        }
        "trap" => {
            let first = if first == "--" {
                args.get(1).map_or("", String::as_str)
            } else {
                first
            };
            if first.starts_with('-') || first.is_empty() {
                return Ok(None);
            }
            machine.run_text(&first.to_owned(), input, true)?
        }
        "alias" => {
            // What an alias stands for will run under another name.
            return Ok(None);
        }
        "complete" | "bind" => {
            if let Some(command) = option(args, "-C", "").or_else(|| option(args, "-x", "")) {
                // `bind -x '"key": command'`
                let command = match command.split_once("\":") {
                    Some((_, command)) if program == "bind" => command,
                    _ => command,
                };
                machine.run_text(&command.to_owned(), "", false)?;
            }
            return Ok(None);
        }
        "hash" => {
            if let Some(path) = option(args, "-p", "")
                && let Some(name) = args.last()
            {
                let base = path.rsplit('/').next().unwrap_or("").to_owned();
                machine.copies.insert(name.clone(), base);
            }
            return Ok(None);
        }
        "command" if has_flag(leading(args), 'v') || has_flag(leading(args), 'V') => {
            return Ok(Some(format!(
                "{}\n",
                operands(args, "").first().copied().unwrap_or("")
            )));
        }
        "su" | "script" | "runuser" | "flock" | "watch" | "sg" | "newgrp"
            if clustered(args, 'c', "--command").is_some() =>
        {
            let command = clustered(args, 'c', "--command").unwrap_or("").to_owned();
            machine.run_text(&command, input, true)?
        }
        "sg" => {
            let command = args.get(1..).unwrap_or(&[]).join(" ");
            machine.run_text(&command, input, true)?
        }
        "su" | "newgrp" => {
            if input.contains(|c| c != '\n' && c != ' ') {
                machine.run_text(&input.to_owned(), "", true)?;
            }
            String::new()
        }
        "env" if has_flag(leading(args), 'S') || has_long(leading(args), "--split-string") => {
            let at = args
                .iter()
                .position(|arg| arg.starts_with("--split") || !arg.starts_with("--") && arg.contains('S'))
                .unwrap_or(0);
            let word = args.get(at).map_or("", String::as_str);
            let own = if word.starts_with("--") {
                word.split_once('=').map_or("", |(_, text)| text)
            } else {
                word.split_once('S').map_or("", |(_, text)| text)
            };
            let joined = own.is_empty();
            let mut text = if joined {
                args.get(at.saturating_add(1)).cloned().unwrap_or_default()
            } else {
                own.to_owned()
            };
            for arg in args.iter().skip(at.saturating_add(if joined { 2 } else { 1 })) {
                text.push(' ');
                text.push_str(&super::machine::quote(arg));
            }
            machine.run_text(&format!("env {text}"), input, true)?
        }
        "sudo" if operands(args, "u").is_empty() && (has_flag(args, 's') || has_flag(args, 'i')) => {
            // A root shell that reads what comes in.
            if !input.trim().is_empty() {
                machine.run_text(&input.to_owned(), "", true)?;
            }
            return Ok(None);
        }
        "exec" | "env" | "sudo" | "nohup" if operands(args, "").is_empty() => {
            // What the shell itself reads from now on.
            if program == "exec" && !input.trim().is_empty() && machine.files.len() < 4096 {
                machine.files.insert("/dev/fd/0".to_owned(), input.to_owned());
            }
            return Ok(None);
        }
        "sudo" if has_flag(leading(args), 'e') || has_long(leading(args), "--edit") => {
            for path in operands(args, "u") {
                machine.judge_write(path, None)?;
            }
            return Ok(None);
        }
        "sudoedit" => {
            for path in operands(args, "u") {
                machine.judge_write(path, None)?;
            }
            return Ok(None);
        }
        "hyperfine" => {
            for command in operands(args, "wmMrspPLDn") {
                machine.run_text(&command.to_owned(), input, false)?;
            }
            String::new()
        }
        "watch" => {
            let (_, command) = rest(&shape("nq", &["--interval"], 0, false), args);
            let text = command.join(" ");
            machine.run_text(&text, input, true)?
        }
        "xargs" | "parallel" => xargs(machine, program, args, input)?,
        "find" | "fd" | "fdfind" => return find(machine, program, args, input),
        "ssh" | "autossh" | "mosh" | "sshpass" | "plink" => {
            if program == "sshpass" {
                let (_, command) = rest(&shape("pfd", &[], 0, false), args);
                let command = command.to_vec();
                return machine.run(&command, input).map(Some);
            }
            for (at, arg) in args.iter().enumerate() {
                let value = arg
                    .strip_prefix("-o")
                    .filter(|value| !value.is_empty())
                    .or_else(|| {
                        (arg == "-o").then(|| args.get(at.saturating_add(1)).map_or("", String::as_str))
                    });
                if let Some((name, command)) = value.and_then(|value| value.split_once(['=', ' ']))
                    && matches!(
                        name.to_ascii_lowercase().as_str(),
                        "proxycommand" | "localcommand" | "knownhostscommand"
                    )
                {
                    machine.run_text(&command.to_owned(), "", false)?;
                }
            }
            // The other side may then log in here.
            if program != "plink"
                && let Some(forward) = clustered(args, 'R', "")
                && forward.rsplit_once(':').is_some_and(|(host, port)| {
                    matches!(port, "22" | "23" | "3389" | "5900")
                        && host
                            .rsplit(':')
                            .next()
                            .is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "0.0.0.0" | "]"))
                })
            {
                return Err(Stop::Danger("opens a shell to the network"));
            }
            let (_, command) = rest(&shape("BbcDEeFIiJLlmOopQRSWw", &[], 1, false), args);
            if command.is_empty() {
                if input.trim().is_empty() {
                    return Ok(Some(mark(marks::OUTPUT).to_owned()));
                }
                machine.run_text(&input.to_owned(), "", true)?
            } else {
                if input.contains(marks::SENSITIVE)
                    && !command.iter().any(|word| word == "psql" || word == "mysql")
                {
                    // Another machine of one's own gets it; keys and whole systems do not go there either.
                    let text = command.join(" ");
                    machine.run_text(&text, input, true)?;
                    return Ok(Some(mark(marks::OUTPUT).to_owned()));
                }
                let text = command.join(" ");
                let mut output = machine.run_text(&text, input, true)?;
                // What is not known of it comes from another machine.
                if marks::any(&output) {
                    output.push(marks::NETWORK);
                }
                output
            }
        }
        "docker" | "docker-compose" | "crictl" | "kubectl" | "oc" | "lxc" | "vagrant" | "gcloud"
        | "nix-shell" => {
            if program == "vagrant" || program == "gcloud" {
                if let Some(command) = option(args, "-c", "--command") {
                    machine.run_text(&command.to_owned(), input, true)?;
                }
                return Ok(None);
            }
            if program == "nix-shell" {
                if let Some(command) = option(args, "", "--run").or_else(|| option(args, "", "--command")) {
                    machine.run_text(&command.to_owned(), input, true)?;
                }
                return Ok(None);
            }
            return container(machine, program, args, input);
        }
        "npx" | "npm" | "pnpm" | "bunx"
            if (program == "npx" || matches!(first, "exec" | "x"))
                && option(args, "-c", "--call").is_some() =>
        {
            let command = option(args, "-c", "--call").unwrap_or("").to_owned();
            machine.run_text(&command, input, true)?
        }
        "npx" | "bunx" | "uvx" | "pipx"
            if args
                .iter()
                .find(|arg| !arg.starts_with('-') && *arg != "run")
                .is_some_and(|arg| is_foreign(arg)) =>
        {
            return Err(Stop::Danger("runs what it downloads"));
        }
        "fzf" | "sk" => {
            for name in ["--preview", "--bind", "--header-command"] {
                let Some(text) = option(args, "", name) else {
                    continue;
                };
                let command = match text.split_once(['(', ':']) {
                    Some((_, command)) if name == "--bind" => command
                        .split_once('(')
                        .map_or(command, |(_, command)| command)
                        .trim_end_matches(')'),
                    _ => text,
                };
                machine.run_text(&command.replace("{}", "item"), "", false)?;
            }
            return Ok(None);
        }
        // The scripts of a package that this script wrote.
        "npm" | "pnpm" | "yarn" | "bun"
            if matches!(
                first,
                "i" | "install"
                    | "ci"
                    | "test"
                    | "t"
                    | "start"
                    | "run"
                    | "run-script"
                    | "add"
                    | "rebuild"
                    | "pack"
                    | "publish"
            ) && machine.files.contains_key(&machine.file_name("package.json")) =>
        {
            let content = machine
                .files
                .get(&machine.file_name("package.json"))
                .cloned()
                .unwrap_or_default();
            let scripts = serde_json::from_str::<serde_json::Value>(&content)
                .ok()
                .and_then(|package| {
                    package
                        .get("scripts")
                        .and_then(|scripts| scripts.as_object().cloned())
                })
                .unwrap_or_default();
            for command in scripts.values().filter_map(|command| command.as_str()).take(64) {
                machine.run_text(command, "", false)?;
            }
            return Ok(None);
        }
        "npm" | "pnpm" | "yarn" | "poetry" | "pipenv" | "uv" | "bundle" | "rye" | "hatch" | "conda"
        | "mise" | "asdf" | "direnv" | "aws-vault" | "op" | "doppler" | "pdm" | "pipx" | "mamba"
        | "micromamba" | "rbenv" | "pyenv" | "nodenv" | "goenv" | "jenv" | "rtx" | "volta" | "fnm"
        | "chamber" | "dotenvx" | "infisical" | "teller" | "pct" | "incus" | "devbox" | "pixi" | "rustup"
        | "opam" | "foreman" | "honcho" | "lxc-attach" | "ip" | "launchctl"
            if args.iter().any(|arg| is_start(program, arg)) =>
        {
            let Some(at) = args.iter().position(|arg| is_start(program, arg)) else {
                return Ok(None);
            };
            let after = args.get(at.saturating_add(1)..).unwrap_or(&[]);
            if matches!(program, "npm" | "pnpm" | "yarn")
                && matches!(args.get(at).map(String::as_str), Some("run"))
            {
                return Ok(None);
            }
            let after = match after.iter().position(|arg| arg == "--") {
                Some(at) => after.get(at.saturating_add(1)..).unwrap_or(&[]),
                None => {
                    rest(
                        &shape(
                            "np",
                            &["--name", "--prefix", "--with", "--python", "--env-file"],
                            usize::from(matches!(
                                program,
                                "direnv"
                                    | "aws-vault"
                                    | "chamber"
                                    | "ip"
                                    | "pct"
                                    | "incus"
                                    | "rustup"
                                    | "launchctl"
                            )),
                            false,
                        ),
                        after,
                    )
                    .1
                }
            };
            if after.is_empty() {
                return Ok(None);
            }
            let command = after.to_vec();
            machine.run(&command, input)?
        }
        "salt" | "salt-call" | "salt-ssh" => {
            let Some(at) = args.iter().position(|arg| arg.starts_with("cmd.")) else {
                return Ok(None);
            };
            let text = args.get(at.saturating_add(1)..).unwrap_or(&[]).join(" ");
            machine.run_text(&text, input, true)?
        }
        "pdsh" | "pssh" | "parallel-ssh" | "clush" | "dsh" | "cssh" => {
            let (_, command) = rest(
                &shape("whlptoegxfuHOB", &["--hosts", "--host", "--user"], 0, false),
                args,
            );
            let text = command.join(" ");
            machine.run_text(&text, input, true)?
        }
        "machinectl" if first == "shell" => {
            let command = args.get(2..).unwrap_or(&[]).to_vec();
            machine.run(&command, input)?
        }
        "perf" => {
            let Some((_, after)) = args.split_first() else {
                return Ok(None);
            };
            let (_, command) = rest(
                &shape(
                    "eopFcCtrIjDu",
                    &["--event", "--output", "--call-graph", "--pid"],
                    0,
                    false,
                ),
                after,
            );
            if command.is_empty() || !matches!(first, "stat" | "record" | "trace" | "mem" | "lock" | "sched")
            {
                return Ok(None);
            }
            let command = command.to_vec();
            machine.run(&command, input)?
        }
        "capsh" => {
            let Some(at) = args.iter().position(|arg| arg == "--" || arg == "==") else {
                return Ok(None);
            };
            let words = args.get(at.saturating_add(1)..).unwrap_or(&[]).to_vec();
            shell(machine, &words, input)?
        }
        "start-stop-daemon" => {
            let Some(started) = option(args, "-x", "--exec").or_else(|| option(args, "-a", "--startas"))
            else {
                return Ok(None);
            };
            let after = args.iter().skip_while(|arg| *arg != "--").skip(1).cloned();
            let command: Vec<String> = std::iter::once(started.to_owned()).chain(after).collect();
            machine.run(&command, input)?
        }
        "lldb" | "gdb" if args.iter().any(|arg| arg == "--" || arg == "--args") => {
            let at = args
                .iter()
                .position(|arg| arg == "--" || arg == "--args")
                .unwrap_or(0);
            let command = args.get(at.saturating_add(1)..).unwrap_or(&[]).to_vec();
            debugger(machine, args)?;
            if command.is_empty() {
                return Ok(None);
            }
            machine.run(&command, input)?
        }
        "lldb" => {
            debugger(machine, args)?;
            return Ok(None);
        }
        "nix" | "guix"
            if args
                .iter()
                .any(|arg| matches!(arg.as_str(), "--command" | "-c" | "--")) =>
        {
            let after = |start: &dyn Fn(&str) -> bool| {
                args.iter()
                    .position(|arg| start(arg))
                    .and_then(|at| args.get(at.saturating_add(1)..))
                    .map(<[String]>::to_vec)
                    .unwrap_or_default()
            };
            let command = if first == "run" {
                // `nix run nixpkgs#bash -- words`
                let name = args
                    .iter()
                    .find_map(|arg| arg.split_once('#'))
                    .map_or("", |(_, name)| name)
                    .to_owned();
                std::iter::once(name).chain(after(&|arg| arg == "--")).collect()
            } else {
                after(&|arg| matches!(arg, "--command" | "-c" | "--"))
            };
            if command.first().is_none_or(String::is_empty) {
                return Ok(None);
            }
            machine.run(&command, input)?
        }
        "adb" if first == "shell" || args.iter().any(|arg| arg == "shell") => {
            let text: Vec<String> = args
                .iter()
                .skip_while(|arg| *arg != "shell")
                .skip(1)
                .cloned()
                .collect();
            machine.run_text(&text.join(" "), input, false)?
        }
        "pee" => {
            for command in args {
                machine.run_text(command, input, false)?;
            }
            return Ok(None);
        }
        "cmd" => {
            windows_shell(machine, args, input)?;
            return Ok(None);
        }
        "aws" if args.iter().any(|arg| arg == "send-command") => {
            for arg in args {
                if let Some((_, list)) = arg
                    .split_once("commands=")
                    .or_else(|| arg.split_once("\"commands\":"))
                {
                    for command in list.trim_matches(['[', ']', '{', '}', ' ']).split("\",") {
                        let command = command.trim_matches(['"', '\'', ' ']).to_owned();
                        machine.run_text(&command, "", false)?;
                    }
                }
            }
            return Ok(None);
        }
        "git" => return git(machine, args, input),
        "hg" => {
            for setting in args.iter().filter_map(|arg| {
                let setting = arg.strip_prefix("--config=").unwrap_or(arg);
                setting.split_once('=')
            }) {
                let (name, command) = setting;
                if name.starts_with("hooks.")
                    || matches!(name, "ui.editor" | "ui.ssh" | "ui.merge" | "pager.pager")
                    || name.starts_with("alias.") && command.starts_with('!')
                {
                    machine.run_text(command.trim_start_matches('!'), "", false)?;
                }
            }
            return Ok(None);
        }
        "npm" | "pnpm" | "yarn" | "bun"
            if matches!(first, "config" | "set" | "pkg")
                && (args.iter().any(|arg| arg == "script-shell")
                    || args.iter().any(|arg| arg.starts_with("scripts."))) =>
        {
            for arg in args {
                let command = arg
                    .strip_prefix("scripts.")
                    .and_then(|setting| setting.split_once('='))
                    .map_or(arg.as_str(), |(_, command)| command);
                if command.contains(' ') || command.contains('|') {
                    machine.run_text(&command.to_owned(), "", false)?;
                }
            }
            return Ok(None);
        }
        "python" | "perl" | "ruby" | "node" | "php" | "lua" | "deno" | "bun" | "osascript" | "awk"
        | "tclsh" | "Rscript" | "julia" | "powershell" | "expect" | "groovy" | "elixir" | "ts-node"
        | "tsx" | "luajit" | "jshell" | "guile" => {
            return interpreter(machine, program, args, input);
        }
        "sed" => {
            let mut scripts: Vec<&str> = Vec::new();
            for (at, arg) in args.iter().enumerate() {
                if let Some(script) = arg.strip_prefix("--expression=") {
                    scripts.push(script);
                } else if arg.starts_with('-') && !arg.starts_with("--") && arg.ends_with('e') {
                    scripts.extend(args.get(at.saturating_add(1)).map(String::as_str));
                } else if let Some(script) = arg.strip_prefix("-e") {
                    scripts.push(script);
                }
            }
            if scripts.is_empty() {
                scripts.extend(operands(args, "fl").into_iter().find(|word| !word.is_empty()));
            }
            for script in scripts {
                let (commands, files) = code::sed_script(script);
                for command in commands {
                    machine.run_text(&command, "", true)?;
                }
                for file in files {
                    machine.judge_path(&file)?;
                    machine.judge_write(&file, None)?;
                }
            }
            return Ok(None);
        }
        "make" | "gmake" | "just" | "ninja" => {
            make(machine, program, args, input)?;
            return Ok(None);
        }
        "emacs" => {
            for (at, arg) in args.iter().enumerate() {
                let text = if matches!(arg.as_str(), "--eval" | "-eval" | "--execute" | "-f") {
                    args.get(at.saturating_add(1)).map(String::as_str)
                } else {
                    arg.strip_prefix("--eval=")
                };
                if let Some(text) = text {
                    code::judge(machine, program, &text.to_owned())?;
                }
            }
            return Ok(None);
        }
        "java" | "dotnet" | "mono" | "wine" => {
            for arg in args {
                if let Some(content) = machine.files.get(&machine.file_name(arg))
                    && content.contains(marks::NETWORK)
                {
                    return Err(Stop::Danger("runs what it downloads"));
                }
            }
            return Ok(None);
        }
        "vi" | "ed" | "gdb" | "sqlite3" | "psql" | "mysql" | "less" | "tcpdump" | "nmap" | "ftp" | "man"
        | "rsync" | "crontab" | "tmux" | "screen" | "at" | "expect_" => {
            for arg in args {
                for marker in [
                    "!",
                    "shell ",
                    "\\!",
                    ".shell ",
                    ".system ",
                    "PROGRAM '",
                    "program '",
                    "system ",
                    "os.execute(",
                ] {
                    if let Some((_, command)) = arg.split_once(marker)
                        && (marker.starts_with(['!', '\\']) && program != "rsync"
                            || !marker.starts_with('!') && !matches!(program, "rsync" | "man"))
                    {
                        machine.run_text(command.trim_end_matches(['\'', '"', ')', ';']), "", false)?;
                    }
                }
            }
            if program == "vi" || program == "gdb" {
                debugger(machine, args)?;
            }
            if program == "vi" || program == "ed" {
                // An editor that is told what to do reads and writes like any other program.
                let told = args.iter().any(|arg| arg == "-c" || arg.starts_with('+')) || program == "ed";
                let orders = if program == "ed" {
                    input.to_owned()
                } else {
                    args.iter()
                        .filter(|arg| arg.contains([':', '%', 'w', 'x']))
                        .cloned()
                        .collect::<Vec<_>>()
                        .join("\n")
                };
                let writes = orders.split(['\n', '|', ':']).any(|order| {
                    matches!(
                        order.trim(),
                        "w" | "wq" | "x" | "w!" | "wq!" | "%d" | "wqa" | "xa"
                    )
                });
                for arg in args.iter().filter(|arg| !arg.starts_with('-')) {
                    if told && writes && arg.starts_with('/') {
                        machine.judge_write(arg, None)?;
                    }
                    for word in arg.split_whitespace() {
                        if super::paths::is_credential(word, &machine.env.cwd) {
                            return Err(Stop::Danger("reads credentials"));
                        }
                    }
                }
            }
            if program == "man"
                && let Some(command) = option(args, "-P", "--pager")
            {
                machine.run_text(&command.to_owned(), "", false)?;
            }
            if matches!(program, "psql" | "mysql" | "sqlite3") {
                statements(machine, args)?;
            }
            if program == "tmux" || program == "screen" {
                for arg in args.iter().filter(|arg| arg.contains(' ')) {
                    machine.run_text(arg.trim_end_matches("^M"), "", false)?;
                }
                let (_, command) = if program == "screen" {
                    rest(&shape("ScehptTLsX", &[], 0, false), args)
                } else {
                    rest(&shape("sncFtxyLSf", &[], 1, false), args)
                };
                // `screen -dmS name command`, `tmux new-session -d command`
                let starts = program == "screen" && args.first().is_some_and(|arg| arg.contains('m'))
                    || first.starts_with("new")
                    || first.starts_with("split")
                    || first.starts_with("respawn");
                if starts && !command.is_empty() {
                    let command = command.to_vec();
                    machine.run(&command, "")?;
                }
            }
            if program == "rsync"
                && let Some(command) = option(args, "-e", "--rsh")
            {
                machine.run_text(&format!("{command} host"), "", false)?;
            }
            if program == "ed" && !input.is_empty() {
                for line in input.lines().filter_map(|line| line.strip_prefix('!')) {
                    machine.run_text(&line.to_owned(), "", false)?;
                }
            }
            return Ok(None);
        }
        "ansible" => {
            if let Some(command) = option(args, "-a", "--args") {
                machine.run_text(&command.to_owned(), "", false)?;
            }
            return Ok(None);
        }
        _ => {
            let Some(shape) = shape_of(program) else {
                return Ok(None);
            };
            if program == "builtin" && first == "eval" {
                return open(machine, "eval", args.get(1..).unwrap_or(&[]), input);
            }
            // A trace is written to a command.
            if matches!(program, "strace" | "ltrace")
                && let Some(target) = option(args, "-o", "--output")
                && let Some(command) = target.strip_prefix(['|', '!'])
            {
                machine.run_text(&command.to_owned(), "", false)?;
            }
            let (assigns, command) = rest(&shape, args);
            for assign in assigns {
                if let Some((name, value)) = assign.split_once('=') {
                    machine.judge_assignment(name, &[value.to_owned()])?;
                }
            }
            if command.is_empty() {
                // A root shell that reads what comes in.
                if matches!(
                    program,
                    "sudo" | "doas" | "chroot" | "unshare" | "nsenter" | "pkexec"
                ) && (has_flag(args, 's') || has_flag(args, 'i'))
                    && !input.trim().is_empty()
                {
                    machine.run_text(&input.to_owned(), "", true)?;
                }
                return Ok(None);
            }
            if program == "systemd-run" && args.iter().any(|arg| arg.starts_with("--on-")) {
                return Err(Stop::Danger("makes something run or log in later"));
            }
            // The folder that the command begins in.
            if matches!(program, "env" | "sudo") {
                let own = args
                    .get(..args.len().saturating_sub(command.len()))
                    .unwrap_or(args);
                let folder = if program == "env" {
                    option(own, "-C", "--chdir")
                } else {
                    option(own, "-D", "--chdir")
                };
                if let Some(folder) = folder {
                    let folder = folder.to_owned();
                    let command = command.to_vec();
                    let outer = std::mem::replace(&mut machine.env_mut().cwd, folder);
                    let output = machine.run(&command, input);
                    machine.env_mut().cwd = outer;
                    return output.map(Some);
                }
            }
            if program == "nsenter" && enters_host(args) {
                return Err(Stop::Danger("hands the machine's files to a container"));
            }
            let command = command.to_vec();
            machine.run(&command, input)?
        }
    };
    Ok(Some(ran))
}

/// Whether `nsenter` goes where the machine's own files are: out of a container, to its first process.
fn enters_host(args: &[String]) -> bool {
    let own = leading_options(args);
    let first = option(own, "-t", "--target") == Some("1");
    let mount =
        has_flag(own, 'm') || has_flag(own, 'a') || has_long(own, "--mount") || has_long(own, "--all");
    first && mount
}

/// The words up to the first that is neither an option nor a number.
fn leading_options(args: &[String]) -> &[String] {
    let end = args
        .iter()
        .position(|arg| !arg.starts_with('-') && !arg.bytes().all(|byte| byte.is_ascii_digit()))
        .unwrap_or(args.len());
    args.get(..end).unwrap_or(args)
}

/// `sh`, with `-c`, a file, or what comes in.
fn shell(machine: &mut Machine<'_>, args: &[String], input: &str) -> Result<String> {
    let mut rest = args;
    let mut command = false;
    let mut reads = false;
    while let Some((arg, after)) = rest.split_first() {
        if arg == "--" || arg == "-" {
            rest = after;
            break;
        }
        if matches!(arg.as_str(), "--rcfile" | "--init-file") {
            if let Some((file, after)) = after.split_first() {
                let content = machine.read(file)?;
                machine.run_text(&content, "", false)?;
                rest = after;
            } else {
                rest = after;
            }
            continue;
        }
        if arg.starts_with("--") {
            rest = after;
            continue;
        }
        if arg.starts_with(['-', '+']) && arg.len() > 1 {
            command |= arg.contains('c') && arg.starts_with('-');
            reads |= arg.contains('s') && arg.starts_with('-');
            rest = after;
            if arg.ends_with(['o', 'O']) && !rest.is_empty() {
                rest = rest.get(1..).unwrap_or(&[]);
            }
            continue;
        }
        break;
    }
    // A file that the shell reads first.
    for name in ["BASH_ENV", "ENV"] {
        let file = machine
            .env
            .vars
            .get(name)
            .and_then(|var| var.value(machine.choice).first().cloned());
        if let Some(content) = file.and_then(|file| machine.files.get(&machine.file_name(&file)).cloned()) {
            machine.run_text(&content, "", false)?;
        }
    }
    let saved = std::rc::Rc::clone(&machine.env);
    let result = if command {
        let Some((text, parameters)) = rest.split_first() else {
            return Ok(String::new());
        };
        machine.env_mut().args = if parameters.is_empty() {
            vec!["bash".to_owned()]
        } else {
            parameters.to_vec()
        };
        machine.run_text(&text.clone(), input, true)
    } else if let Some((file, parameters)) = rest.split_first().filter(|_| !reads) {
        machine.env_mut().args = std::iter::once(file.clone())
            .chain(parameters.iter().cloned())
            .collect();
        let script = file == "/dev/stdin" || file == "/proc/self/fd/0" || file == "/dev/fd/0";
        let content = if script {
            Ok(input.to_owned())
        } else {
            machine.read(file)
        };
        if file.starts_with([marks::OUTPUT, marks::SENSITIVE]) {
            machine.unknown("runs a script whose name is not known before it runs");
        }
        if file.starts_with(marks::NETWORK) {
            return Err(Stop::Danger("runs what it downloads"));
        }
        let content = content?.replace(marks::SENSITIVE, mark(marks::FILE));
        machine.run_text(&content, "", true)
    } else {
        machine.env_mut().args = std::iter::once("bash".to_owned())
            .chain(rest.iter().cloned())
            .collect();
        let kept = if input.trim().is_empty() {
            machine.files.get("/dev/fd/0").cloned()
        } else {
            None
        };
        let input = kept.as_deref().unwrap_or(input);
        if input.trim().is_empty() {
            // A shell whose commands come from whoever is connected: what it says is theirs.
            machine.env = saved;
            return Ok(mark(marks::SENSITIVE).to_owned());
        }
        machine.run_text(&input.to_owned(), "", true)
    };
    machine.env = saved;
    result
}

fn xargs(machine: &mut Machine<'_>, program: &str, args: &[String], input: &str) -> Result<String> {
    let shape = if program == "xargs" {
        shape(
            "aEdILnPs",
            &[
                "--arg-file",
                "--delimiter",
                "--max-args",
                "--max-procs",
                "--max-lines",
                "--replace",
            ],
            0,
            false,
        )
    } else {
        shape(
            "jIanNLSs",
            &["--jobs", "--colsep", "--joblog", "--timeout", "--delay"],
            0,
            false,
        )
    };
    let (_, command) = rest(&shape, args);
    let mut command: Vec<String> = command.to_vec();
    let mut items: Vec<String> = Vec::new();
    if program == "parallel"
        && let Some(at) = command.iter().position(|word| word.starts_with(":::"))
    {
        items = command.split_off(at).into_iter().skip(1).collect();
    }
    if let Some(file) = option(args, "-a", "--arg-file") {
        let content = machine.read(&file.to_owned())?;
        items.extend(content.split_whitespace().take(256).map(str::to_owned));
    } else if items.is_empty() {
        if input.contains('\u{fdd5}') || marks::any(input) {
            items.extend(input.split_whitespace().take(64).map(str::to_owned));
        } else {
            // Quotes and backslashes count in what xargs reads.
            items.extend(
                input
                    .split([' ', '\t', '\n', '\0'])
                    .filter(|item| !item.is_empty())
                    .take(256)
                    .map(|item| item.replace(['\'', '"', '\\'], "")),
            );
        }
    }
    if command.is_empty() {
        if program == "parallel" {
            for item in items {
                machine.run_text(&item, "", true)?;
            }
            return Ok(String::new());
        }
        return Ok(items.join(" "));
    }
    let place = option(args, "-I", "--replace").map(str::to_owned).or_else(|| {
        (has_flag(args, 'i')
            || program == "parallel"
            || command
                .iter()
                .any(|word| word.contains("{}") && has_long(args, "--replace")))
        .then(|| "{}".to_owned())
    });
    let place =
        place.filter(|place| !place.is_empty() && command.iter().any(|word| word.contains(place.as_str())));
    if let Some(place) = place {
        let mut output = String::new();
        // A line is one item then.
        if option(args, "-a", "--arg-file").is_none() && !args.iter().any(|arg| arg.starts_with(":::")) {
            let quotes = program == "xargs" && !marks::any(input) && !has_flag(args, '0');
            items = input
                .split(['\n', '\0'])
                .map(str::trim_start)
                .filter(|line| !line.is_empty())
                .take(256)
                .map(|line| {
                    if quotes {
                        line.replace(['\'', '"', '\\'], "")
                    } else {
                        line.to_owned()
                    }
                })
                .collect();
        }
        for item in items.iter().take(32) {
            let words: Vec<String> = command.iter().map(|word| word.replace(&place, item)).collect();
            output.push_str(&run_or_text(machine, program, &words)?);
        }
        return Ok(output);
    }
    command.extend(items);
    run_or_text(machine, program, &command)
}

fn run_or_text(machine: &mut Machine<'_>, program: &str, words: &[String]) -> Result<String> {
    match words {
        // `parallel 'rm {}'`: a shell reads it.
        [text, ..] if program == "parallel" && text.contains(' ') => {
            machine.run_text(&words.join(" "), "", true)
        }
        words => machine.run(words, ""),
    }
}

fn find(machine: &mut Machine<'_>, program: &str, args: &[String], input: &str) -> Result<Option<String>> {
    let mut roots: Vec<String> = if program == "find" {
        args.iter()
            .skip_while(|arg| matches!(arg.as_str(), "-H" | "-L" | "-P") || arg.starts_with("-O"))
            .take_while(|arg| !arg.starts_with('-') && !matches!(arg.as_str(), "(" | "!" | ","))
            .cloned()
            .collect()
    } else {
        operands(args, "etdxXE")
            .into_iter()
            .skip(1)
            .map(str::to_owned)
            .collect()
    };
    if roots.is_empty() {
        roots.push(".".to_owned());
    }
    let filtered = program != "find"
        || args.windows(2).any(|pair| {
            let [arg, value] = pair else { return false };
            // A star names everything.
            if matches!(arg.as_str(), "-name" | "-iname" | "-path" | "-wholename" | "-ipath")
                && value.chars().all(|c| matches!(c, '*' | '.' | '/' | '?'))
            {
                return false;
            }
            matches!(
                arg.as_str(),
                "-name"
                    | "-iname"
                    | "-path"
                    | "-regex"
                    | "-mtime"
                    | "-atime"
                    | "-ctime"
                    | "-mmin"
                    | "-newer"
                    | "-wholename"
                    | "-ipath"
                    | "-size"
                    | "-user"
                    | "-perm"
                    | "-iregex"
                    | "-links"
                    | "-inum"
                    | "-cmin"
                    | "-amin"
                    | "-samefile"
            )
        })
        || args.iter().any(|arg| matches!(arg.as_str(), "-empty" | "-prune"))
        // Only names are looked at, or only the tree's own folder is cleaned of one kind.
        || !args.iter().any(|arg| arg == "-delete")
            && args.windows(2).any(|pair| {
                matches!(pair, [arg, _] if matches!(arg.as_str(), "-type" | "-maxdepth" | "-mindepth" | "-xtype"))
            });
    let found: Vec<String> = roots
        .iter()
        .map(|root| {
            let root = root.trim_end_matches('/');
            // What is found below a folder is some of it; without a filter it is all of it.
            let wide = !filtered
                || matches!(
                    machine.place(if root.is_empty() { "/" } else { root }),
                    Place::Root | Place::Home
                )
                || matches!(machine.place(root), Place::System)
                    && !root.starts_with("/var/log")
                    && !root.starts_with("/opt")
                    && !root.starts_with("/usr/local")
                    && !root.starts_with("/srv")
                    && !root.starts_with("/home");
            if wide {
                if root.is_empty() {
                    "/".to_owned()
                } else {
                    root.to_owned()
                }
            } else {
                format!("{root}/{}", marks::HARMLESS)
            }
        })
        .collect();
    let mut at = 0_usize;
    let mut ran = false;
    while let Some(arg) = args.get(at) {
        at = at.saturating_add(1);
        match arg.as_str() {
            "-delete" => {
                for path in &found {
                    machine.judge_removal(path, true)?;
                }
                ran = true;
            }
            "-exec" | "-execdir" | "-ok" | "-okdir" | "-x" | "-X" | "--exec" | "--exec-batch"
                if program == "find"
                    || arg.starts_with("-x")
                    || arg.starts_with("-X")
                    || arg.starts_with("--exec") =>
            {
                let command: Vec<String> = args
                    .iter()
                    .skip(at)
                    .take_while(|word| *word != ";" && *word != "+")
                    .cloned()
                    .collect();
                at = at.saturating_add(command.len());
                ran = true;
                let names_only = command.first().is_some_and(|name| {
                    matches!(name.as_str(), "chmod" | "ls" | "rm" | "chown" | "stat" | "test")
                });
                if !names_only
                    && roots
                        .iter()
                        .any(|root| super::paths::is_credential(root, &machine.env.cwd))
                {
                    return Err(Stop::Danger("reads credentials"));
                }
                for path in &found {
                    let mut words: Vec<String> =
                        command.iter().map(|word| word.replace("{}", path)).collect();
                    if program != "find" && !command.iter().any(|word| word.contains("{}")) {
                        words.push(path.clone());
                    }
                    // The names it finds decide: keys among them are looked for on purpose.
                    for pattern in [
                        option(args, "-name", ""),
                        option(args, "-iname", ""),
                        option(args, "-path", ""),
                    ]
                    .into_iter()
                    .flatten()
                    {
                        // Private keys are looked for in a home or everywhere, not below one's own folder.
                        let keys = [".pem", ".key", ".p12", ".pfx", ".kdbx", ".jks"]
                            .iter()
                            .any(|end| pattern.ends_with(end))
                            && roots
                                .iter()
                                .any(|root| matches!(machine.place(root), Place::Root | Place::Home));
                        let settings = super::paths::is_dotenv(pattern)
                            && roots.iter().any(|root| {
                                matches!(machine.place(root), Place::Root | Place::Home | Place::System)
                            });
                        if (keys || settings || super::paths::is_credential(pattern, ""))
                            && !matches!(
                                words.first().map(String::as_str),
                                Some("chmod" | "ls" | "rm" | "chown" | "stat")
                            )
                        {
                            return Err(Stop::Danger("reads credentials"));
                        }
                    }
                    machine.run(&words, input)?;
                }
            }
            "-fprint" | "-fprintf" | "-fls" | "-fprint0" => {
                if let Some(path) = args.get(at) {
                    machine.judge_write(&path.clone(), None)?;
                }
            }
            _ => {}
        }
    }
    if !ran {
        return Ok(None);
    }
    Ok(Some(mark(marks::OUTPUT).to_owned()))
}

/// The value of a short option that may stand last in a cluster: `-qc value`, `-cvalue`; or of a long one.
fn clustered<'a>(args: &'a [String], short: char, long: &str) -> Option<&'a str> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == long {
            return rest.next().map(String::as_str);
        }
        if let Some(value) = arg.strip_prefix(long).and_then(|value| value.strip_prefix('=')) {
            return Some(value);
        }
        if arg.starts_with('-') && !arg.starts_with("--") {
            let Some((_, value)) = arg.split_once(short) else {
                continue;
            };
            return if value.is_empty() {
                rest.next().map(String::as_str)
            } else {
                Some(value)
            };
        }
    }
    None
}

/// The files that statements of a database write and read.
fn statements(machine: &mut Machine<'_>, args: &[String]) -> Result<()> {
    for arg in args.iter().filter(|arg| arg.contains(' ')) {
        let lower = arg.to_ascii_lowercase();
        let writes = lower.contains("outfile")
            || lower.contains("dumpfile")
            || lower.contains("writefile")
            || lower.contains("copy") && lower.contains(" to ");
        for literal in arg.split(['\'', '"']).skip(1).step_by(2) {
            if !literal.starts_with(['/', '~']) || literal.contains(' ') {
                continue;
            }
            if writes {
                machine.judge_write(literal, None)?;
            }
            if super::paths::is_credential(literal, "") {
                return Err(Stop::Danger("reads credentials"));
            }
        }
    }
    Ok(())
}

/// Whether an argument is where the words of another command begin, after a program's own.
fn is_start(program: &str, arg: &str) -> bool {
    match program {
        "lxc-attach" => arg == "--",
        "launchctl" => arg == "asuser",
        "ip" => arg == "exec",
        _ => matches!(arg, "exec" | "run" | "x" | "dlx"),
    }
}

/// What an editor or a debugger is told to do in a language of its own: `-ex 'python …'`, `+'py3 …'`, `:call system(…)`.
fn debugger(machine: &mut Machine<'_>, args: &[String]) -> Result<()> {
    for arg in args {
        let order = arg
            .trim_start_matches("-c")
            .trim_start_matches(['+', ':', ' '])
            .trim_start_matches("silent ")
            .trim_start();
        for (word, language) in [
            ("python3", "python"),
            ("python", "python"),
            ("py3", "python"),
            ("pyx", "python"),
            ("py", "python"),
            ("script", "python"),
            ("perl", "perl"),
            ("ruby", "ruby"),
            ("lua", "lua"),
            ("call", "lua"),
            ("echo", "lua"),
            ("let", "lua"),
            ("exe", "lua"),
        ] {
            let Some(code) = order
                .strip_prefix(word)
                .filter(|rest| rest.starts_with([' ', '!', '-']))
            else {
                continue;
            };
            let code = code.trim_start_matches(['!', '-', ' ']).to_owned();
            if code.contains(['(', '"', '\'']) {
                code::judge(machine, language, &code)?;
            }
            break;
        }
    }
    Ok(())
}

/// The words behind `cmd /c`: separated by `&` and `|`, with paths that backslashes part.
fn windows_shell(machine: &mut Machine<'_>, args: &[String], input: &str) -> Result<()> {
    let at = args.iter().position(|arg| {
        let arg = arg.trim_start_matches('/');
        arg.eq_ignore_ascii_case("c") || arg.eq_ignore_ascii_case("k") || arg.eq_ignore_ascii_case("r")
    });
    let Some(at) = at else {
        if !input.trim().is_empty() {
            machine.unknown("runs another shell whose words are not read");
        }
        return Ok(());
    };
    let text = args.get(at.saturating_add(1)..).unwrap_or(&[]).join(" ");
    if marks::any(&text) && text.starts_with(marks::is) {
        machine.unknown("runs another shell whose words are not read");
    }
    let plain = text.replace('\\', "/").replace('^', "").to_ascii_lowercase();
    for part in plain.split(['&', '|', '\n']) {
        machine.run_text(part.trim_start_matches(['@', ' ', '(']), "", false)?;
    }
    Ok(())
}

/// A program that nothing is known of may run the words after one that names a program, or a text that an option says
/// is a command. It is a guess: only what is surely harmful counts, and nothing in a text that may be prose.
pub(super) fn guess(machine: &mut Machine<'_>, program: &str, args: &[String], input: &str) -> Result<()> {
    if machine.guesses || !machine.strict || args.is_empty() {
        return Ok(());
    }
    let mut tails: Vec<usize> = args
        .iter()
        .enumerate()
        .filter(|(at, arg)| at.saturating_add(1) < args.len() && is_runnable(arg))
        .map(|(at, _)| at)
        .take(3)
        .collect();
    let mut text = args
        .iter()
        .enumerate()
        .filter(|(_, arg)| arg.starts_with('-'))
        .find_map(|(at, arg)| {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, value),
                None => (
                    arg.as_str(),
                    args.get(at.saturating_add(1)).map_or("", String::as_str),
                ),
            };
            (value.contains(' ') && names_a_command(name)).then(|| (name, value.to_owned()))
        });
    if (!tails.is_empty() || text.is_some()) && only_names(program) {
        tails.clear();
        text = text.filter(|(name, _)| name.starts_with("--") && !matches!(*name, "--run" | "--script"));
    }
    if tails.is_empty() && text.is_none() {
        return Ok(());
    }
    let saved = std::rc::Rc::clone(&machine.env);
    let unknown = machine.unknown;
    let strict = std::mem::replace(&mut machine.strict, false);
    machine.guesses = true;
    let mut result = Ok(String::new());
    for at in tails {
        let command = args.get(at..).unwrap_or(&[]).to_vec();
        result = machine.run(&command, input);
        if matches!(result, Err(Stop::Danger(_))) {
            break;
        }
    }
    if let Some((_, text)) = text
        && !matches!(result, Err(Stop::Danger(_)))
    {
        result = machine.run_text(&text, "", false);
    }
    machine.guesses = false;
    machine.strict = strict;
    machine.unknown = unknown;
    machine.env = saved;
    match result {
        Err(Stop::Danger(reason)) => Err(Stop::Danger(reason)),
        _ => Ok(()),
    }
}

/// Whether the name of an option says that its value is a command.
fn names_a_command(name: &str) -> bool {
    matches!(name, "-c" | "-e" | "-x" | "-s" | "--run" | "--script")
        || name.starts_with("--")
            && [
                "command", "cmd", "program", "filter", "pager", "exec", "shell", "hook", "editor",
            ]
            .iter()
            .any(|word| name.contains(word))
}

/// Whether a word names a program that does harm with the right words behind it.
fn is_runnable(word: &str) -> bool {
    if word.len() > 24 || !word.starts_with(|c: char| c.is_ascii_lowercase() || c == '/') {
        return false;
    }
    matches!(
        word.rsplit('/').next().unwrap_or(""),
        "rm" | "dd"
            | "shred"
            | "wipefs"
            | "blkdiscard"
            | "chmod"
            | "chown"
            | "kill"
            | "pkill"
            | "killall"
            | "sh"
            | "bash"
            | "dash"
            | "zsh"
            | "busybox"
            | "sudo"
            | "env"
            | "find"
            | "xargs"
            | "curl"
            | "wget"
            | "nc"
            | "socat"
            | "python"
            | "python3"
            | "perl"
            | "ruby"
            | "node"
            | "mkfs"
            | "mkfs.ext4"
            | "mkfs.xfs"
            | "shutdown"
            | "reboot"
            | "poweroff"
            | "systemctl"
            | "truncate"
            | "crontab"
            | "timeout"
            | "nohup"
    )
}

/// Programs whose words are texts, names of packages, of files or of their own commands.
fn only_names(program: &str) -> bool {
    matches!(
        program,
        "echo"
            | "printf"
            | "grep"
            | "egrep"
            | "fgrep"
            | "rg"
            | "ag"
            | "ack"
            | "git"
            | "gh"
            | "glab"
            | "hub"
            | "man"
            | "info"
            | "apropos"
            | "whatis"
            | "which"
            | "type"
            | "whereis"
            | "help"
            | "tldr"
            | "cheat"
            | "apt"
            | "apt-get"
            | "apt-cache"
            | "aptitude"
            | "dpkg"
            | "dnf"
            | "yum"
            | "rpm"
            | "zypper"
            | "pacman"
            | "apk"
            | "brew"
            | "port"
            | "pip"
            | "pip3"
            | "npm"
            | "pnpm"
            | "yarn"
            | "cargo"
            | "gem"
            | "go"
            | "docker"
            | "docker-compose"
            | "kubectl"
            | "oc"
            | "helm"
            | "test"
            | "["
            | "[["
            | "logger"
            | "wall"
            | "write"
            | "say"
            | "cowsay"
            | "figlet"
            | "toilet"
            | "notify-send"
            | "history"
            | "alias"
            | "unalias"
            | "export"
            | "local"
            | "declare"
            | "readonly"
            | "typeset"
            | "read"
            | "set"
            | "unset"
            | "complete"
            | "compgen"
            | "cat"
            | "ls"
            | "cp"
            | "mv"
            | "ln"
            | "install"
            | "tar"
            | "sed"
            | "awk"
            | "tr"
            | "cut"
            | "sort"
            | "diff"
            | "head"
            | "tail"
            | "wc"
            | "jq"
            | "yq"
            | "psql"
            | "mysql"
            | "sqlite3"
            | "claude"
            | "codex"
            | "aider"
            | "gemini"
            | "llm"
            | "ollama"
            | "mail"
            | "mutt"
            | "slack"
            | "jira"
            | "task"
            | "note"
            | "expr"
            | "let"
            | "seq"
            | "basename"
            | "dirname"
            | "file"
            | "stat"
            | "chmod"
            | "chown"
            | "rm"
            | "mkdir"
            | "touch"
            | "kill"
            | "pgrep"
            | "pkill"
            | "killall"
            | "ps"
            | "lsof"
            | "dpkg-query"
            | "update-alternatives"
            | "dpkg-divert"
            | "shellcheck"
            | "strings"
            | "ldd"
            | "sha256sum"
            | "md5sum"
            | "hash"
            | "bind"
            | "systemctl"
            | "journalctl"
            | "visudo"
            | "setcap"
            | "getcap"
            | "strip"
            | "nm"
            | "objdump"
            | "readelf"
    )
}

/// The recipes of a makefile that this script wrote, or that comes in.
fn make(machine: &mut Machine<'_>, program: &str, args: &[String], input: &str) -> Result<()> {
    let named = option(args, "-f", "--file").map(str::to_owned);
    let content = match named.as_deref() {
        Some(path) if is_stdin(path) => input.to_owned(),
        Some(path) => machine.read(path)?,
        None => [
            "Makefile",
            "makefile",
            "GNUmakefile",
            "justfile",
            "Justfile",
            ".justfile",
        ]
        .iter()
        .filter(|name| name.to_ascii_lowercase().ends_with("justfile") == (program == "just"))
        .find_map(|name| machine.files.get(&machine.file_name(name)).cloned())
        .unwrap_or_default(),
    };
    let content = match args.iter().find_map(|arg| arg.strip_prefix("--eval")) {
        Some(text) if text.starts_with('=') => format!("{content}\n{}", text.trim_start_matches('=')),
        Some(_) => format!("{content}\n{}", option(args, "", "--eval").unwrap_or("")),
        None => content,
    };
    if content.contains(marks::NETWORK) {
        return Err(Stop::Danger("runs what it downloads"));
    }
    // What recipes are run by.
    for (name, value) in args.iter().filter_map(|arg| arg.split_once('=')) {
        if matches!(
            name,
            "SHELL" | "CC" | "CXX" | "CPP" | "LD" | "AR" | "MAKE" | "PYTHON"
        ) && value.contains(' ')
            && !marks::any(value)
        {
            machine.run_text(&value.to_owned(), "", false)?;
        }
    }
    for line in content.lines() {
        let recipe = line
            .strip_prefix('\t')
            .or_else(|| line.strip_prefix("  ").filter(|_| program == "just"))
            .or_else(|| {
                let (_, rest) = line.split_once(':')?;
                rest.split_once(';').map(|(_, recipe)| recipe)
            })
            .or_else(|| {
                line.split_once("$(shell ")
                    .map(|(_, rest)| rest.trim_end_matches(')'))
            });
        if let Some(recipe) = recipe {
            let recipe = recipe.trim_start_matches(['@', '-', '+', ' ']).replace("$$", "$");
            machine.run_text(&recipe, "", false)?;
        }
    }
    Ok(())
}

/// PowerShell's own commands, whose names are the same in upper and lower case.
fn powershell(machine: &mut Machine<'_>, text: &str) -> Result<()> {
    let lower = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["iex", "invoke-expression"])
        && has(&[
            "downloadstring",
            "iwr",
            "invoke-webrequest",
            "invoke-restmethod",
            "irm ",
            "curl",
            "wget",
        ])
    {
        return Err(Stop::Danger("runs what it downloads"));
    }
    if has(&["downloadfile", "-outfile"])
        && has(&["start-process", "invoke-item", "saps ", "; ./", ";./", "; .\\"])
    {
        return Err(Stop::Danger("runs what it downloads"));
    }
    // A backslash parts folders here, and quotes nothing.
    let lower = lower.replace('\\', "/");
    for line in lower.split([';', '\n', '|', '{', '}']) {
        // A member of what a shell put in before.
        if line.trim_start().starts_with(marks::is) && line.contains('.') {
            continue;
        }
        machine.run_text(line.trim_start_matches(['&', ' ', '.']), "", false)?;
    }
    Ok(())
}

fn container(
    machine: &mut Machine<'_>,
    program: &str,
    args: &[String],
    input: &str,
) -> Result<Option<String>> {
    let valued = "euwvpnlfcLhmaiR".to_owned();
    let Some(at) = args
        .iter()
        .position(|arg| matches!(arg.as_str(), "exec" | "run" | "create" | "debug"))
    else {
        return Ok(None);
    };
    // `-i` and `-t` take no value for containers.
    let valued = if program == "kubectl" || program == "oc" {
        "ncfl".to_owned()
    } else {
        valued.replace(['i', 'a', 'R', 'f', 'c', 'L'], "")
    };
    let after = args.get(at.saturating_add(1)..).unwrap_or(&[]);
    let command: Vec<String> = if program == "kubectl" || program == "oc" || program == "lxc" {
        match after.iter().position(|arg| arg == "--") {
            Some(at) => after.get(at.saturating_add(1)..).unwrap_or(&[]).to_vec(),
            None if args.get(at).is_some_and(|verb| verb == "exec") => rest(
                &shape(
                    "ncfl",
                    &["--namespace", "--container", "--context", "--kubeconfig"],
                    1,
                    false,
                ),
                after,
            )
            .1
            .to_vec(),
            None => Vec::new(),
        }
    } else {
        const LONG: &[&str] = &[
            "--name",
            "--env",
            "--volume",
            "--publish",
            "--network",
            "--workdir",
            "--user",
            "--entrypoint",
            "--mount",
            "--memory",
            "--cpus",
            "--platform",
            "--restart",
            "--hostname",
            "--label",
            "--env-file",
            "--add-host",
            "--gpus",
            "--ulimit",
            "--cap-add",
            "--security-opt",
            "--device",
            "--log-driver",
            "--net",
            "--pid",
            "--shm-size",
            "--tmpfs",
            "--ip",
            "--dns",
            "--pull",
            "--expose",
            "--link",
            "--volumes-from",
            "--userns",
            "--ipc",
            "--cidfile",
            "--index",
        ];
        let operand = Shape {
            valued: "",
            long: LONG,
            operands: 1,
            assigns: false,
        };
        let mut words = after;
        // Short options with a value, skipped here since which they are depends on the program.
        let mut kept: Vec<String> = Vec::new();
        let mut done = false;
        while let Some((word, left)) = words.split_first() {
            words = left;
            if !done
                && word.starts_with('-')
                && !word.starts_with("--")
                && word.chars().last().is_some_and(|c| valued.contains(c))
            {
                words = words.get(1..).unwrap_or(&[]);
                continue;
            }
            if !done && LONG.contains(&word.as_str()) {
                words = words.get(1..).unwrap_or(&[]);
                continue;
            }
            done |= !word.starts_with('-');
            kept.push(word.clone());
        }
        rest(&operand, &kept).1.to_vec()
    };
    if command.is_empty() {
        return Ok(None);
    }
    // The first process of a container is the container.
    if matches!(command.as_slice(), [program, .., process] if program == "kill" && process == "1") {
        return Ok(None);
    }
    let entry = option(args, "", "--entrypoint").map(str::to_owned);
    let command = match entry {
        Some(entry) if !entry.is_empty() => std::iter::once(entry).chain(command).collect(),
        _ if command.first().is_some_and(|word| word.starts_with('-')) => return Ok(None),
        _ => command,
    };
    // The container's own folders are not the machine's, but whoever cleans them all means all of them.
    let saved = std::rc::Rc::clone(&machine.env);
    let output = machine.run(&command, input);
    machine.env = saved;
    let output = output?;
    // The options of the container itself are judged as well.
    let _ = output;
    Ok(None)
}

/// Whether git runs the value of a setting; names are in lower case.
fn runs_value(name: &str) -> bool {
    matches!(
        name,
        "core.sshcommand"
            | "core.pager"
            | "core.editor"
            | "core.fsmonitor"
            | "credential.helper"
            | "diff.external"
            | "sequence.editor"
            | "core.gitproxy"
            | "core.askpass"
    )
}

fn git(machine: &mut Machine<'_>, args: &[String], input: &str) -> Result<Option<String>> {
    for pair in args.windows(2) {
        let [flag, value] = pair else { continue };
        if (flag == "-c" || flag == "config" || flag == "--config-env" || flag == "--config")
            && let Some((name, command)) = value.split_once('=')
        {
            let name = name.to_ascii_lowercase();
            if name.starts_with("alias.") {
                if let Some(command) = command.strip_prefix('!') {
                    machine.run_text(command, "", true)?;
                }
            } else if runs_value(&name) {
                machine.run_text(command.trim_start_matches('!'), "", false)?;
            }
        }
    }
    let words = operands(args, "cC");
    match words.first().copied() {
        Some("clean") if has_flag(args, 'f') || has_long(args, "--force") => {
            let folder = option(args, "-C", "").unwrap_or(".");
            if std::iter::once(folder)
                .chain(words.iter().skip(1).copied())
                .any(|folder| matches!(machine.place(folder), Place::Root | Place::System | Place::Home))
            {
                return Err(Stop::Danger(
                    "destroys files of the system, of a home folder or all that is here",
                ));
            }
        }
        Some("difftool" | "mergetool") => {
            if let Some(command) = option(args, "-x", "--extcmd") {
                machine.run_text(&command.to_owned(), "", false)?;
            }
        }
        Some("grep") => {
            if let Some(command) = args.iter().find_map(|arg| {
                arg.strip_prefix("-O")
                    .or_else(|| arg.strip_prefix("--open-files-in-pager="))
            }) {
                machine.run_text(command, "", false)?;
            }
        }
        Some("credential") if words.get(1) == Some(&"fill") => {
            return Err(Stop::Danger("reads credentials"));
        }
        Some("credential-store" | "credential-cache" | "credential-libsecret" | "credential-osxkeychain")
            if words.contains(&"get") =>
        {
            return Err(Stop::Danger("reads credentials"));
        }
        Some("bisect") if words.get(1) == Some(&"run") => {
            let command: Vec<String> = args
                .iter()
                .skip_while(|arg| *arg != "run")
                .skip(1)
                .cloned()
                .collect();
            machine.run(&command, input)?;
        }
        Some("submodule") if words.get(1) == Some(&"foreach") => {
            let text = words.get(2..).unwrap_or(&[]).join(" ");
            machine.run_text(&text, "", true)?;
        }
        Some("rebase") => {
            if let Some(command) = option(args, "-x", "--exec") {
                machine.run_text(&command.to_owned(), "", true)?;
            }
        }
        Some("filter-branch") => {
            for long in [
                "--tree-filter",
                "--index-filter",
                "--msg-filter",
                "--env-filter",
                "--commit-filter",
            ] {
                if let Some(command) = option(args, "", long) {
                    machine.run_text(&command.to_owned(), "", true)?;
                }
            }
        }
        Some("config") => {
            if let [.., name, command] = args {
                let name = name.to_ascii_lowercase();
                if name.starts_with("alias.")
                    && let Some(command) = command.strip_prefix('!')
                {
                    machine.run_text(command, "", true)?;
                } else if runs_value(&name) {
                    machine.run_text(command.trim_start_matches('!'), "", false)?;
                } else if name == "core.hookspath" && machine.place(command) == Place::Temporary {
                    return Err(Stop::Danger("makes something run or log in later"));
                }
            }
        }
        Some("clone" | "fetch" | "pull" | "ls-remote") => {
            // A transport that is a command of whoever wrote the address.
            if args.iter().any(|arg| arg.starts_with("ext::")) {
                return Err(Stop::Danger("runs what it downloads"));
            }
            if let Some(command) = option(args, "-u", "--upload-pack") {
                machine.run_text(&command.to_owned(), "", false)?;
            }
        }
        _ => {}
    }
    Ok(None)
}

fn interpreter(
    machine: &mut Machine<'_>,
    program: &str,
    args: &[String],
    input: &str,
) -> Result<Option<String>> {
    let output = |_: ()| Ok(Some(mark(marks::OUTPUT).to_owned()));
    let mut texts: Vec<String> = Vec::new();
    let flags: &[&str] = match program {
        "python" => &["-c"],
        "perl" => &["-e", "-E"],
        "ruby" | "lua" | "luajit" | "osascript" | "Rscript" | "julia" | "elixir" | "groovy" => &["-e", "-E"],
        "node" | "bun" | "ts-node" | "tsx" => &["-e", "--eval", "-p", "--print", "-pe"],
        "deno" => &["eval"],
        "php" => &["-r", "-B", "-R", "-E"],
        "powershell" => &["-c"],
        "expect" | "guile" => &["-c"],
        _ => &[],
    };
    let mut rest = args.iter();
    let mut file: Option<&String> = None;
    let mut module = false;
    let mut modules = 0_usize;
    while let Some(arg) = rest.next() {
        if program == "powershell" && arg.starts_with(['-', '/']) {
            let name = arg.trim_start_matches(['-', '/']).to_ascii_lowercase();
            if name == "ec" || (!name.is_empty() && "encodedcommand".starts_with(name.as_str())) {
                machine.unknown("runs code that is encoded");
                rest.next();
            } else if !name.is_empty() && "command".starts_with(name.as_str()) {
                texts.extend(rest.by_ref().cloned());
            } else if !name.is_empty() && "file".starts_with(name.as_str()) {
                file = rest.next();
                break;
            } else if name == "ep"
                || name == "w"
                || [
                    "windowstyle",
                    "executionpolicy",
                    "version",
                    "inputformat",
                    "outputformat",
                    "configurationname",
                ]
                .iter()
                .any(|long| name.len() > 1 && long.starts_with(name.as_str()))
            {
                rest.next();
            }
            continue;
        }
        if flags.contains(&arg.as_str()) {
            texts.extend(rest.next().cloned());
            continue;
        }
        // A cluster: `perl -ne code`, `python -Ic code`, `perl -MFoo -e code`; or code glued to it.
        if arg.starts_with('-') && !arg.starts_with("--") && arg.len() > 2 {
            let letters: Vec<char> = flags
                .iter()
                .filter_map(|flag| flag.strip_prefix('-'))
                .filter(|flag| flag.len() == 1)
                .filter_map(|flag| flag.chars().next())
                .collect();
            let at = arg
                .char_indices()
                .skip(1)
                .find(|(_, c)| letters.contains(c))
                .map(|(at, _)| at);
            if let Some(at) = at
                && !arg.starts_with("-M")
                && !arg.starts_with("-m")
                && !arg.starts_with("-I")
                && arg
                    .get(1..at)
                    .is_some_and(|head| head.chars().all(|c| c.is_ascii_alphanumeric()))
            {
                let glued = arg.get(at.saturating_add(1)..).unwrap_or("");
                if glued.is_empty() {
                    texts.extend(rest.next().cloned());
                } else {
                    texts.push(glued.to_owned());
                }
                continue;
            }
        }
        if program == "perl"
            && let Some(module) = arg.strip_prefix("-M")
        {
            texts.push(format!("use {module};"));
            modules = modules.saturating_add(1);
            continue;
        }
        if program == "python" && arg == "-m" {
            module = true;
            break;
        }
        if program == "powershell" && !arg.to_ascii_lowercase().ends_with(".ps1") {
            // Words without an option are a command.
            texts.push(arg.clone());
            texts.extend(rest.by_ref().cloned());
            break;
        }
        if !arg.starts_with('-') || arg == "-" {
            file = Some(arg);
            break;
        }
        if program == "perl" && matches!(arg.as_str(), "-I" | "-M")
            || program == "node" && matches!(arg.as_str(), "-r" | "--require")
            || program == "awk" && matches!(arg.as_str(), "-F" | "-v" | "-f")
            || program == "python" && matches!(arg.as_str(), "-W" | "-X")
        {
            rest.next();
        }
    }
    // A file that is edited in its place.
    if matches!(program, "perl" | "ruby")
        && args.iter().any(|arg| {
            arg.starts_with("-i")
                || arg.starts_with("-pi")
                || arg.starts_with("-ni")
                || arg.starts_with("-lpi")
        })
    {
        for path in args.iter().filter(|arg| arg.starts_with(['/', '~'])) {
            machine.judge_write(path, None)?;
        }
    }
    if program == "awk" {
        if option(args, "-f", "--file").is_none()
            && let Some(code) = file
        {
            code::judge_awk(machine, code)?;
        }
        return Ok(None);
    }
    if module {
        let words: Vec<&String> = rest.collect();
        if words.first().is_some_and(|name| *name == "http.server") {
            let folder = option(args, "-d", "--directory");
            if folder.is_some_and(|folder| {
                matches!(machine.place(folder), Place::Root | Place::Home | Place::System)
                    || machine.is_private(folder)
            }) || folder.is_none() && matches!(machine.place("."), Place::Root | Place::Home)
            {
                return Err(Stop::Danger("sends data out"));
            }
        }
        return Ok(None);
    }
    if texts.len() == modules {
        if program == "deno" {
            file = operands(args, "")
                .get(1)
                .and_then(|name| args.iter().find(|arg| arg == name));
        }
        if program == "bun" && file.is_some_and(|file| file == "run") {
            file = operands(args, "")
                .get(1)
                .and_then(|name| args.iter().find(|arg| arg == name));
        }
        match file {
            Some(file) if is_foreign(file) => return Err(Stop::Danger("runs what it downloads")),
            Some(file) if !is_stdin(file) => {
                let content = machine.read(&file.clone())?;
                if content.contains(marks::NETWORK) || file.starts_with(marks::NETWORK) {
                    return Err(Stop::Danger("runs what it downloads"));
                }
                if file.starts_with(marks::OUTPUT) {
                    machine.unknown("runs a script whose name is not known before it runs");
                }
                if !marks::any(&content) {
                    code::judge(machine, program, &content)?;
                } else if content.contains(marks::OUTPUT) {
                    machine.unknown("runs code that is not known before it runs");
                }
                return output(());
            }
            _ => {
                if input.trim().is_empty() {
                    return output(());
                }
                if input.contains(marks::NETWORK) {
                    return Err(Stop::Danger("runs what it downloads"));
                }
                if input.contains([marks::OUTPUT, marks::SENSITIVE]) {
                    machine.unknown("runs code that is not known before it runs");
                }
                code::judge(machine, program, input)?;
                return output(());
            }
        }
    }
    let text = texts.join(if program == "powershell" { " " } else { "\n" });
    if text.contains(marks::NETWORK) {
        return Err(Stop::Danger("runs what it downloads"));
    }
    if text.contains(marks::OUTPUT) && text.trim().chars().all(marks::is) {
        machine.unknown("runs code that is not known before it runs");
    }
    // Code that runs its own input.
    if input.contains(marks::NETWORK) && code::runs_input(&text) {
        return Err(Stop::Danger("runs what it downloads"));
    }
    if program == "powershell" {
        if text.trim() == "-" && input.contains(marks::NETWORK) {
            return Err(Stop::Danger("runs what it downloads"));
        }
        powershell(machine, &text)?;
    }
    code::judge(machine, program, &text)?;
    let carried = marks::of(input, None);
    if carried.contains(marks::NETWORK) {
        return Ok(Some(mark(marks::NETWORK).to_owned()));
    }
    output(())
}
