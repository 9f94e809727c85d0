//! Code in other languages, given on a command line. It is not parsed: its calls and its literals are looked at.
#![expect(clippy::too_many_lines, reason = "a list of checks, one after another")]

use super::machine::{Machine, Stop, quote};
use super::paths;

type Result<T> = std::result::Result<T, Stop>;

const REVERSE: Stop = Stop::Danger("opens a shell to the network");
const READS: Stop = Stop::Danger("reads credentials");
const DESTROYS: Stop = Stop::Danger("destroys files of the system, of a home folder or all that is here");

/// The escapes of `echo -e`, `printf` and most string literals.
pub(super) fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut bytes: Vec<u8> = Vec::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let digits =
        |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, base: u32, most: usize| -> Option<u32> {
            let mut value = None;
            for _ in 0..most {
                let Some(digit) = chars.peek().and_then(|c| c.to_digit(base)) else {
                    break;
                };
                chars.next();
                value = Some(value.unwrap_or(0_u32).wrapping_mul(base).wrapping_add(digit));
            }
            value
        };
    while let Some(character) = chars.next() {
        if character != '\\' {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match chars.next() {
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('r') => bytes.push(b'\r'),
            Some('a') => bytes.push(7),
            Some('b') => bytes.push(8),
            Some('e' | 'E') => bytes.push(27),
            Some('x') => match digits(&mut chars, 16, 2) {
                Some(value) => bytes.push(u8::try_from(value).unwrap_or(b'?')),
                None => bytes.extend_from_slice(b"\\x"),
            },
            Some(kind @ ('u' | 'U')) => {
                match digits(&mut chars, 16, if kind == 'u' { 4 } else { 8 }).and_then(char::from_u32) {
                    Some(decoded) => bytes.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes()),
                    None => bytes.extend_from_slice(b"\\u"),
                }
            }
            Some(first @ '0'..='7') => {
                let most = if first == '0' { 3 } else { 2 };
                let start = first.to_digit(8).unwrap_or(0);
                let mut value = start;
                for _ in 0..most {
                    let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    chars.next();
                    value = value.wrapping_mul(8).wrapping_add(digit);
                }
                bytes.push(u8::try_from(value & 0xff).unwrap_or(b'?'));
            }
            Some('c') => break,
            Some(other @ ('\\' | '\'' | '"')) => bytes.push(u8::try_from(other).unwrap_or(b'?')),
            Some(other) => {
                bytes.push(b'\\');
                bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
            }
            None => bytes.push(b'\\'),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A literal, and what stands before it since the last one.
#[derive(Debug)]
struct Literal {
    text: String,
    before: String,
    backquoted: bool,
}

/// The string literals of `code`; those that `+`, `.` or nothing joins are one.
fn literals(code: &str) -> (Vec<Literal>, String) {
    let mut found: Vec<Literal> = Vec::new();
    let mut between = String::new();
    let mut chars = code.chars().peekable();
    while let Some(character) = chars.next() {
        let close = match character {
            '\'' | '"' | '`' => character,
            _ => {
                between.push(character);
                continue;
            }
        };
        let mut raw = String::new();
        let mut closed = false;
        while let Some(next) = chars.next() {
            if next == close {
                closed = true;
                break;
            }
            raw.push(next);
            if next == '\\'
                && let Some(escaped) = chars.next()
            {
                raw.push(escaped);
            }
        }
        if !closed && raw.is_empty() {
            break;
        }
        let text = unescape(&raw);
        let glue = between.trim();
        let joins = !found.is_empty() && matches!(glue, "" | "+" | "." | ".." | "<>") && close != '`';
        match found.last_mut() {
            Some(last) if joins && !(last.text.is_empty() && glue.is_empty()) => last.text.push_str(&text),
            _ => found.push(Literal {
                text,
                before: std::mem::take(&mut between),
                backquoted: close == '`',
            }),
        }
        between.clear();
    }
    (found, between)
}

const EXECUTES: [&str; 41] = [
    "do script",
    "Bun.$",
    "Bun.spawn",
    "$`",
    "shell-command",
    "call-process",
    "start-process",
    "system",
    "popen",
    "subprocess",
    "exec",
    "execSync",
    "spawn",
    "child_process",
    "shell_exec",
    "passthru",
    "proc_open",
    "Open3",
    "qx",
    "%x",
    "pty.",
    "Runtime",
    "os.execute",
    "io.popen",
    "do shell script",
    "Start-Process",
    "Invoke-Expression",
    "iex",
    "fork",
    "Deno.Command",
    "Deno.run",
    "run(",
    "IO.popen",
    "Kernel",
    "check_output",
    "check_call",
    "getoutput",
    "posix_spawn",
    "startfile",
    "pcntl_exec",
    "sh(",
];

const DELETES: [&str; 28] = [
    "file delete",
    "delete-directory",
    "delete-file",
    ").rm(",
    "rmtree",
    "remove(",
    "unlink",
    "rmdir",
    "rimraf",
    "rmSync",
    "rm_rf",
    "rm_r",
    "remove_tree",
    "removedirs",
    "fs.rm",
    "FileUtils.rm",
    "delete(",
    "remove_dir",
    "truncate",
    "Remove-Item",
    "removeSync",
    "emptyDir",
    "Deno.remove",
    "remove_entry",
    "Dir.delete",
    "File.delete",
    "rmdirSync",
    "os.remove",
];

const NETWORK: [&str; 11] = [
    "socket",
    "/inet/tcp",
    "TCPSocket",
    "fsockopen",
    "net.Socket",
    "IO::Socket",
    "createConnection",
    "Net.Sockets",
    "TcpClient",
    "net.connect",
    "/dev/tcp",
];

const FETCHES: [&str; 21] = [
    "require(\"https\")",
    "require('https')",
    "require(\"http\")",
    "require('http')",
    "urlopen",
    "urlretrieve",
    "requests.get",
    "urllib",
    "http.get",
    "https.get",
    "fetch(",
    "LWP",
    "file_get_contents('http",
    "file_get_contents(\"http",
    "Net::HTTP",
    "open-uri",
    "DownloadString",
    "Invoke-WebRequest",
    "URI.open",
    "httpx",
    "HTTP::Tiny",
];

const WRITES: [&str; 16] = [
    "'w'",
    "\"w\"",
    "'wb'",
    "\"wb\"",
    "'a'",
    "\"a\"",
    "writeFile",
    "appendFile",
    "write_text",
    "File.write",
    "file_put_contents",
    "copyfile",
    "shutil.move",
    "os.rename",
    "'>'",
    "'>>'",
];

fn has(code: &str, words: &[&str]) -> bool {
    words.iter().any(|word| code.contains(word))
}

/// Whether code runs what it reads.
pub(super) fn runs_input(code: &str) -> bool {
    let reads = has(
        code,
        &[
            "stdin",
            "STDIN",
            "input(",
            "<>",
            "fd 0",
            "gets",
            "readFileSync(0",
            "ARGF",
            "php://input",
        ],
    );
    reads
        && has(
            code,
            &["exec", "eval", "system", "spawn", "popen", "run(", "compile"],
        )
}

/// Judges code of a language that is given on the command line.
pub(super) fn judge(machine: &mut Machine<'_>, program: &str, code: &str) -> Result<()> {
    machine.step()?;
    machine.spend_bytes(code.len())?;
    let (found, _) = literals(code);
    let executes = has(code, &EXECUTES)
        || found
            .iter()
            .any(|literal| literal.backquoted && matches!(program, "perl" | "ruby" | "php" | "julia"));
    let dynamic = has(
        code,
        &[
            "eval(",
            "(eval)",
            "exec(",
            "__import__",
            "getattr(",
            "compile(",
            "Function(",
            "eval ",
            "instance_eval",
            "Invoke-Expression",
            "iex ",
            "marshal",
            "importlib",
        ],
    );
    let decodes = has(
        code,
        &[
            "b64decode",
            "base64",
            "fromhex",
            "codecs",
            "rot13",
            "chr(",
            "unpack(",
            "fromCharCode",
            "Buffer.from",
            "decode(",
            "zlib",
            "[::-1]",
            "reverse",
            "String.fromCharCode",
            "pack(",
        ],
    );
    // `open(F, "|sh")`
    let executes = executes
        || program == "perl"
            && code.contains("open")
            && found.iter().any(|literal| {
                let text = literal.text.trim();
                text.len() > 1 && (text.starts_with('|') || text.ends_with('|'))
            });
    // A name that is put together and then looked up.
    let executes = executes
        || dynamic
            && found.iter().any(|literal| {
                matches!(
                    literal.text.as_str(),
                    "system" | "popen" | "exec" | "execSync" | "spawn"
                )
            });
    if program == "python" {
        for line in code.lines() {
            if let Some(command) = line.trim_start().strip_prefix('!') {
                machine.run_text(command, "", false)?;
            }
        }
        for (at, call) in code.match_indices("exec(open(").take(4) {
            let rest = code.get(at.saturating_add(call.len())..).unwrap_or("");
            let name = rest
                .trim_start_matches(['"', '\''])
                .split(['"', '\''])
                .next()
                .unwrap_or("");
            if machine.read(name)?.contains(super::marks::NETWORK) {
                return Err(Stop::Danger("runs what it downloads"));
            }
        }
    }
    let fetches = has(code, &FETCHES);
    if fetches
        && has(
            code,
            &[
                "urlretrieve",
                "createWriteStream",
                "'wb'",
                "\"wb\"",
                "File.write",
                "file_put_contents",
            ],
        )
    {
        // What is written comes from the network, under one of the names in the code.
        for name in found.iter().map(|literal| literal.text.as_str()).take(32) {
            if name.contains(['.', '/']) && !name.contains("://") && !name.contains(char::is_whitespace) {
                let file = machine.file_name(name);
                machine
                    .files
                    .insert(file, super::expand::mark(super::marks::NETWORK).to_owned());
            }
        }
    }
    // Databases are connected to as well.
    let connects = code.contains("connect(")
        && !has(
            code,
            &[
                "sql", "psycopg", "asyncpg", "duckdb", "mongo", "redis", "odbc", "oracledb", "mariadb",
            ],
        );
    if (connects || has(code, &NETWORK))
        && (executes
            || has(
                code,
                &[
                    "dup2",
                    "/bin/sh",
                    "/bin/bash",
                    "cmd.exe",
                    "\"sh\"",
                    "'sh'",
                    "pty.spawn",
                    "-i",
                ],
            ))
    {
        return Err(REVERSE);
    }
    if fetches
        && (executes && !has(code, &["subprocess.run([\"curl\""]) || dynamic)
        && has(
            code,
            &["exec", "eval", "system", "popen", "spawn", "subprocess", "iex"],
        )
    {
        return Err(Stop::Danger("runs what it downloads"));
    }
    let endless = has(
        code,
        &[
            "while 1",
            "while True",
            "while(1)",
            "while (1)",
            "while(true)",
            "while (true)",
            "loop",
            "for(;;)",
            "for (;;)",
            "fork while fork",
            "while fork",
        ],
    );
    if code.contains("fork") && endless && !code.contains("forkserver") {
        return Err(Stop::Danger("multiplies itself until nothing else runs"));
    }
    if has(
        code,
        &[
            "kill(-1",
            "kill -9, -1",
            "kill(9, -1",
            "killpg(0",
            "process.kill(-1",
            "kill 9, -1",
            "kill 'KILL', -1",
        ],
    ) || code.contains("kill(") && code.replace(' ', "").contains(",-1)")
    {
        return Err(Stop::Danger("kills every process"));
    }
    for literal in &found {
        let text = literal.text.as_str();
        if paths::is_credential(text, "") {
            return Err(READS);
        }
        machine.judge_path(text)?;
    }
    if !machine.settings.protected.is_empty() {
        for literal in &found {
            for part in literal.text.split([' ', ',', ';']) {
                machine.judge_path(part)?;
            }
        }
    }
    if has(code, &["environ", "process.env", "%ENV", "ENV.to_h", "getenv()"])
        && (fetches || has(code, &NETWORK) || has(code, &["post(", "POST"]))
        && has(code, &["post", "POST", "data=", "send("])
    {
        return Err(Stop::Danger("sends data out"));
    }
    // What is read from the machine and goes out with the same few lines.
    if has(
        code,
        &[
            "post(", "put(", "POST", "PUT", "upload", "sendall(", "send(", "sendmail",
        ],
    ) && (fetches || has(code, &NETWORK) || has(code, &["requests", "http", "smtplib", "ftplib"]))
        && found.iter().any(|literal| {
            literal.text.starts_with(['/', '~', '.'])
                && !literal.text.contains(' ')
                && machine.is_private(&literal.text)
        })
    {
        return Err(Stop::Danger("sends data out"));
    }
    // Tcl quotes no names.
    if matches!(program, "tclsh" | "expect") {
        for (_, rest) in code.lines().filter_map(|line| line.split_once("file delete")) {
            for path in rest
                .split_whitespace()
                .filter(|word| !word.starts_with('-'))
                .take(16)
            {
                machine.judge_removal(path.trim_matches(['"', '}', ']', '{']), true)?;
            }
        }
    }
    // Perl's `<*.c>` is a list of names.
    if program == "perl" && code.contains("unlink") {
        for (at, _) in code.match_indices('<').take(16) {
            let inner = code
                .get(at.saturating_add(1)..)
                .and_then(|rest| rest.split_once('>'))
                .map_or("", |(inner, _)| inner);
            if inner.contains(['/', '*', '~']) && !inner.contains(' ') {
                machine.judge_removal(inner, true)?;
            }
        }
    }
    if program == "osascript" && has(code, &["shut down", "to restart", "to log out"]) {
        return Err(Stop::Danger("shuts the machine down"));
    }
    // Code in code: `exec("…")`.
    if has(code, &["exec(", "eval(", "eval ", "compile(", "Function("]) {
        for literal in &found {
            if literal.text.len() < code.len() && literal.text.contains('(') && literal.text.len() > 6 {
                judge(machine, program, &literal.text)?;
            }
        }
    }
    let deletes = has(code, &DELETES)
        || (program == "julia" && code.contains("rm("))
        || (program == "perl" && code.contains("unlink"));
    if deletes {
        let mut any = false;
        for literal in &found {
            let text = literal.text.as_str();
            if text.contains(['/', '~', '*', '.']) && !text.contains([' ', '(', '\n']) {
                any = true;
                let recursive = !has(&literal.before, &["unlink", "os.remove(", "File.delete"]);
                machine.judge_removal(text, recursive)?;
            }
            if has(
                &literal.before,
                &[
                    "expanduser",
                    "homedir",
                    "Path.home",
                    "HOME",
                    "environ",
                    "getenv",
                    "ENV[",
                    "env[",
                ],
            ) && matches!(text, "~" | "HOME" | "")
            {
                return Err(DESTROYS);
            }
        }
        if has(code, &["Path.home()", "os.homedir()", "Dir.home", "Dir.home()"])
            && has(code, &["rmtree", "rmSync", "rm_rf", "rimraf"])
            && !any
        {
            return Err(DESTROYS);
        }
        if !any
            && has(code, &["rmtree", "rm_rf", "rmSync", "remove_tree", "rimraf"])
            && !found.iter().any(|literal| {
                has(
                    &literal.before,
                    &[
                        "rmtree(",
                        "rm_rf(",
                        "rmSync(",
                        "rm_rf ",
                        "rmtree ",
                        "remove_tree(",
                    ],
                )
            })
        {
            machine.unknown("removes what is not known before it runs");
        }
    }
    for literal in &found {
        // Perl's `open F, ">>file"`
        let target = literal.text.trim_start_matches('>');
        if target.len() < literal.text.len() && target.trim().starts_with(['/', '~']) {
            machine.judge_write(target.trim(), None)?;
        }
    }
    // The mode of an `open`, in whichever quotes.
    let opens = found.iter().any(|literal| {
        matches!(
            literal.text.as_str(),
            "w" | "wb"
                | "w+"
                | "wb+"
                | "w+b"
                | "a"
                | "ab"
                | "a+"
                | "r+"
                | "r+b"
                | "rb+"
                | "x"
                | "xb"
                | ">"
                | ">>"
                | "+<"
                | "+>"
        )
    });
    if opens || has(code, &WRITES) || code.contains(".write(") {
        // A file of the home folder, by its name alone.
        if has(code, &["home()", "HOME", "homedir", "expanduser", "Dir.home"]) {
            for literal in &found {
                if literal.text.starts_with('.') && literal.text.len() > 3 && !literal.text.contains(' ') {
                    machine.judge_write(&format!("~/{}", literal.text), None)?;
                }
            }
        }
    }
    if opens || has(code, &WRITES) {
        for literal in &found {
            let text = literal.text.as_str();
            if text.starts_with(['/', '~']) && !text.contains(' ') {
                machine.judge_write(text, None)?;
            }
        }
    }
    if has(code, &["chmod"]) && has(code, &["0o777", "0777", "0o666", "0666", "0o4755", "511"]) {
        return Err(Stop::Danger("opens permissions wide"));
    }
    if executes {
        let mut direct = false;
        let mut listed: Vec<String> = Vec::new();
        for literal in &found {
            let separates = literal.before.contains(',')
                && literal
                    .before
                    .chars()
                    .all(|c| matches!(c, ',' | '[' | ']' | '(' | '+' | ' ' | '\n' | '\t'));
            if !separates {
                if listed.len() > 1 {
                    machine.run_text(&words(&listed), "", false)?;
                }
                listed.clear();
            }
            listed.push(literal.text.clone());
            direct = true;
            machine.run_text(&literal.text, "", false)?;
        }
        if listed.len() > 1 {
            machine.run_text(&words(&listed), "", false)?;
        }
        // Words that no quotes surround: `qx(…)`, `%x(…)`, `qw(…)`.
        if matches!(program, "tclsh" | "expect") {
            for line in code.lines() {
                for marker in ["exec ", "spawn ", "system "] {
                    if let Some((_, command)) = line.split_once(marker) {
                        machine.run_text(command.trim_end_matches([']', '"', '}']), "", false)?;
                        direct = true;
                    }
                }
            }
        }
        for marker in ["qx", "%x", "qw", "exec ", "system "] {
            for (at, _) in code.match_indices(marker).take(16) {
                let rest = code
                    .get(at.saturating_add(marker.len())..)
                    .unwrap_or("")
                    .trim_start();
                let close = match rest.chars().next() {
                    Some('(') => ')',
                    Some('{') => '}',
                    Some('[') => ']',
                    Some('/') => '/',
                    Some('|') => '|',
                    Some('!') => '!',
                    _ => continue,
                };
                let inner = rest.get(1..).unwrap_or("").split(close).next().unwrap_or("");
                machine.run_text(inner, "", false)?;
                direct = true;
            }
        }
        if (!direct || dynamic && decodes || argument_unknown(code)) && !machine_free(code) {
            machine.unknown("runs code that is not known before it runs");
        }
    } else if dynamic && (decodes || fetches) {
        machine.unknown("runs code that is not known before it runs");
    }
    Ok(())
}

/// A call that executes and whose argument is no literal.
fn argument_unknown(code: &str) -> bool {
    [
        "os.system(",
        "subprocess.run(",
        "subprocess.call(",
        "popen(",
        "Popen(",
        "execSync(",
        "shell_exec(",
        "passthru(",
        "check_output(",
        "check_call(",
        "exec(",
        "eval(",
        "system(",
    ]
    .iter()
    .any(|call| {
        code.match_indices(call).any(|(at, _)| {
            let rest = code
                .get(at.saturating_add(call.len())..)
                .unwrap_or("")
                .trim_start();
            // A script that lies on the disk.
            let script = *call == "exec(" && (rest.starts_with("open('") || rest.starts_with("open(\""));
            !script
                && (!rest.starts_with(['\'', '"', '`', '[', ')', 'f', 'r', 'b'])
                    || rest.starts_with("f(")
                    || rest.starts_with("base64")
                    || rest.starts_with("bytes"))
        })
    })
}

/// Words that look like execution and are none: a regular expression's `exec`, a module's name.
fn machine_free(code: &str) -> bool {
    !has(
        code,
        &[
            "os.",
            "subprocess",
            "child_process",
            "system",
            "popen",
            "shell_exec",
            "passthru",
            "exec(",
            "eval",
            "spawn",
            "iex",
            "Invoke",
            "`",
            "pty",
        ],
    )
}

fn words(list: &[String]) -> String {
    list.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// An awk program: what `system()` and pipes run, and where `print >` writes.
pub(super) fn judge_awk(machine: &mut Machine<'_>, code: &str) -> Result<()> {
    if !code.contains(['"', '\'']) && !code.contains("system") {
        return Ok(());
    }
    if code.contains("/inet/tcp") || code.contains("/inet/udp") || code.contains("/inet4/") {
        return Err(REVERSE);
    }
    let (found, tail) = literals(code);
    let runs = code.contains("system(")
        || code.contains("system (")
        || code.contains("getline")
        || code.contains('|');
    for (at, literal) in found.iter().enumerate() {
        if runs {
            // `system("rm " $1)`: a field of what is read goes on where the literal ends.
            let after = found
                .get(at.saturating_add(1))
                .map_or(tail.as_str(), |next| next.before.as_str())
                .trim_start();
            if after.starts_with('$') && literal.before.trim_end().ends_with("system(") {
                machine.run_text(&format!("{}{}", literal.text, super::marks::OUTPUT), "", false)?;
            }
            machine.run_text(&literal.text, "", false)?;
        }
        if literal.before.contains("getline") {
            machine.judge_path(&literal.text)?;
        }
        if literal.before.trim_end().ends_with('>') {
            machine.judge_write(&literal.text, None)?;
        }
        if literal.before.contains("getline") && paths::is_credential(&literal.text, "") {
            return Err(READS);
        }
    }
    if code.match_indices("system(").any(|(at, call)| {
        !code
            .get(at.saturating_add(call.len())..)
            .unwrap_or("")
            .trim_start()
            .starts_with('"')
    }) {
        machine.unknown("runs a program whose name is not known before it runs");
    }
    Ok(())
}

/// What a sed script runs (`e`, alone or as a flag of `s`), and the files that it writes (`w`).
pub(super) fn sed_script(script: &str) -> (Vec<String>, Vec<String>) {
    let mut commands = Vec::new();
    let mut files = Vec::new();
    let mut chars = script.chars().peekable();
    // Text up to a separator that no backslash precedes; `\/` is `/`.
    let until = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, separator: char| {
        let mut text = String::new();
        while let Some(character) = chars.next() {
            if character == separator {
                break;
            }
            if character == '\\' {
                match chars.next() {
                    Some(escaped) if escaped == separator => text.push(escaped),
                    Some(escaped) => {
                        text.push('\\');
                        text.push(escaped);
                    }
                    None => {}
                }
            } else {
                text.push(character);
            }
        }
        text
    };
    let line = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
        let mut text = String::new();
        for character in chars.by_ref() {
            if character == '\n' {
                break;
            }
            text.push(character);
        }
        text.trim().to_owned()
    };
    while let Some(character) = chars.next() {
        match character {
            // Addresses.
            '/' => drop(until(&mut chars, '/')),
            '\\' => {
                if let Some(separator) = chars.next() {
                    until(&mut chars, separator);
                }
            }
            's' | 'y' => {
                let Some(separator) = chars.next() else { break };
                until(&mut chars, separator);
                let with = until(&mut chars, separator);
                let mut runs = false;
                while let Some(flag) = chars.peek().copied() {
                    if flag == 'w' && character == 's' {
                        chars.next();
                        files.push(line(&mut chars));
                        break;
                    }
                    if !flag.is_ascii_alphanumeric() {
                        break;
                    }
                    runs |= flag == 'e';
                    chars.next();
                }
                if runs && character == 's' {
                    commands.push(with);
                }
            }
            'e' => {
                let command = line(&mut chars);
                if !command.is_empty() {
                    commands.push(command);
                }
            }
            'w' | 'W' => files.push(line(&mut chars)),
            'r' | 'R' | 'a' | 'i' | 'c' | ':' | '#' => drop(line(&mut chars)),
            'b' | 't' | 'T' => {
                while chars.peek().is_some_and(|&c| !matches!(c, ';' | '\n' | '}')) {
                    chars.next();
                }
            }
            _ => {}
        }
    }
    (commands, files)
}
