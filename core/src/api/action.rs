//! The operations of the API, as the contract describes them.

/// An operation of the API. Its name and its comment are those of the contract: a summary, and what a client has to
/// know besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename_all = "camelCase"))]
pub(super) enum Action {
    /// Read where to begin.
    ///
    /// Needs no key and asks nothing of PVE. While settings are missing or wrong: which, by their names, and the commands that
    /// set them and prepare PVE. Once all is set: for a browser the page by which people use this API, with a key that they
    /// enter there; for others one line that leads to this description and to health.
    GetFrontPage,
    /// Get the script of the page for people.
    ///
    /// Needs no key and asks nothing of PVE.
    GetPageScript,
    /// Get the style of the page for people.
    ///
    /// Needs no key and asks nothing of PVE.
    GetPageStyle,
    /// Read this description of the API.
    ///
    /// Needs no key and asks nothing of PVE.
    GetDescription,
    /// Get the script that installs the daemon in a guest.
    ///
    /// Needs no key and asks nothing of PVE. For a POSIX shell, as root in the container or virtual machine; it holds
    /// public keys and digests alone. 404 in a deployment that was built without the daemon.
    GetInstallScript,
    /// Get the daemon's program.
    ///
    /// Needs no key and asks nothing of PVE. The URL never means other bytes; the script names the one that there is.
    GetGuestProgram,
    /// Get the script that prepares PVE.
    ///
    /// For a POSIX shell, as root on a node of PVE: it makes the API token and its roles, of what the settings name. Asks
    /// nothing of PVE. While settings are missing or wrong it needs no key; once all is set it is for admins.
    GetSetupScript,
    /// Get the script that sets up the proxy on the PVE host.
    ///
    /// For a POSIX shell, as root on a node of PVE or another Debian in the network of the guests: it sets up Caddy, and
    /// cloudflared, as services. For admins: it holds keys, so keep it from others. Asks nothing of PVE. 422 `unsupported`
    /// where neither PVE_IP_POOL_CIDR nor EDGE_GUEST_NETWORK is set, and for Morph Cloud.
    GetProxyScript,
    /// Check that the API is alive.
    ///
    /// Needs no key and asks nothing of PVE.
    GetHealth,
    /// Check that sandboxes can be made.
    ///
    /// Three calls to PVE, one for each template (at most 8), and one that writes nothing where there is a sandbox;
    /// one more for each of PVE_GATEWAY (with PVE_IP_POOL_CIDR) and PVE_SEARCH_DOMAIN (without PVE_PUBLIC_DOMAIN)
    /// that is not set, and, with PVE_BRIDGE, for each node with a template (at most 4). With PVE_PUBLIC_DOMAIN and
    /// PVE_IP_POOL_CIDR, one through the tunnel to the proxy beside PVE, which tells the link that is broken.
    GetSandboxHealth,
    /// Read the presets, services and capabilities that a client may ask for.
    ///
    /// One call to PVE.
    GetConfig,
    /// Make a sandbox.
    ///
    /// With an `Idempotency-Key` it may be sent again after any failure. 503 `template-busy`: others are cloning the
    /// template; `template-locked`: PVE works on it, a backup say. Nothing was made then. Its time counts from this
    /// request: 410 when it is over before it came up.
    CreateSandbox,
    /// List sandboxes.
    ///
    /// One call to PVE; with a filter by metadata up to 8 more, for sandboxes whose metadata did not fit their tags.
    /// What was done through this API in the last 15 seconds is told by its own tags; any other state may be as old.
    /// Sandboxes that have expired and are to be deleted are not listed. Each parameter, and each key of metadata,
    /// may be given once.
    ListSandboxes,
    /// Read a sandbox.
    ///
    /// A sandbox that is still coming up is carried on for as long as `Prefer: wait` allows; without it, by one step.
    GetSandbox,
    /// Change name, metadata and expiry.
    ///
    /// A JSON merge patch (RFC 7396). `ttlSeconds` sets span and expiry, shorter too.
    PatchSandbox,
    /// Delete a sandbox.
    ///
    /// A running sandbox is stopped first. The snapshots that it keeps are deleted with it; templates that were made of it
    /// stay.
    DeleteSandbox,
    /// Give a sandbox more time, or less.
    ///
    /// With `ttlSeconds` the sandbox expires so many seconds from now, be that sooner or later than before. Without it,
    /// the sandbox gets the span that was given last, from now, and never less time than it has. Accepted until a sweep
    /// condemns the sandbox, even after its expiry, if it ever came up.
    ExtendSandbox,
    /// Run a command.
    ///
    /// `Accept: text/event-stream` streams its output. A command is never run twice: where it may have been run, the
    /// answer is 502 `exec-cut`. In a sandbox with pve-edge-guest output is exact, a client that was cut goes on by
    /// `GET …/processes/{process}/output` with the process that `started` has told, and the command runs until its own
    /// time is over, whether or not anybody listens. Else output is UTF-8, by cmux-execd in whole lines; ending the
    /// connection ends the command of cmux-execd and Morph; and `stdin`, `user`, `encoding: base64` and
    /// `Idempotency-Key` are 422 `unsupported`.
    ExecSandbox,
    /// Start a process.
    ///
    /// It runs in the background until it ends, its `timeoutMs` is over, or it is deleted. With an `Idempotency-Key` it
    /// may be sent again after any failure: the same key is the same process. 422 `unsupported` without pve-edge-guest
    /// in the sandbox, as for everything about processes.
    CreateProcess,
    /// List processes.
    ///
    /// Those that were started through this API since the sandbox was started, the oldest first.
    ListProcesses,
    /// Read a process.
    ///
    /// Its state, and its exit if it has ended.
    GetProcess,
    /// Kill a process and forget it.
    ///
    /// Its descendants are killed with it: by TERM, and after 2 seconds by KILL.
    DeleteProcess,
    /// Read the output of a process.
    ///
    /// `Accept: text/event-stream` streams its events until its end; the id of each is the place behind it, so that
    /// `Last-Event-ID` goes on. Else they come as JSON, as far as there are any, after the wait that `Prefer` allows.
    /// The last 16 MiB are kept; what was dropped before it was read is told as `gap`.
    ReadOutput,
    /// Write to the standard input of a process.
    ///
    /// The body is bytes. They may be sent again: what was taken already is passed over. 202 and a smaller `at`: the
    /// process does not read, so send the rest later. 409 `stdin-offset` tells the right `at`.
    WriteStdin,
    /// Send a signal to a process.
    ///
    /// All descendants get it too, unless `scope` is `process`.
    SignalProcess,
    /// Change the size of a process's terminal.
    ///
    /// Programs in it are told by the signal `WINCH`. Without a terminal: 422 `unsupported`.
    ResizeProcess,
    /// Open a terminal.
    ///
    /// A websocket: binary messages are bytes to and from the terminal; text messages are JSON: `{"resize": {"cols": 100,
    /// "rows": 30}}` to it, and `{"started": …}`, `{"gap": {"bytes": 17}}`, `{"exit": …}` or `{"lost": {}}` from it. Without
    /// `process` it is a new login shell, which ends when the client leaves. A browser opens it by a link. 422
    /// `unsupported` without pve-edge-guest in the sandbox; on AWS Lambda 501 `upgrade-unsupported`.
    OpenTerminal,
    /// Make a link to a terminal.
    ///
    /// Its URL opens a terminal of this sandbox, and nothing else, for 60 seconds, in the name of whoever has asked for it:
    /// browsers cannot send a key with a websocket.
    LinkTerminal,
    /// Declare a service of a sandbox, or change it.
    ///
    /// Which port it is, whom the gateway lets in, and who may wake the sandbox by visiting it. `revokeLinks` ends all links
    /// and cookies that were given out; so does another port.
    PutService,
    /// Read a service of a sandbox.
    ///
    /// One that was declared, or one of the table that each sandbox has.
    GetService,
    /// Take the declaration of a service back.
    ///
    /// Its port is private again, as every other port is, and its links open nothing any more.
    DeleteService,
    /// Make a link that opens a service in a browser.
    ///
    /// Whoever has it is let in for 10 minutes, or `ttlSeconds`, and stays for 12 hours: to this port of this sandbox alone,
    /// and never to another sandbox that has the same VMID later.
    LinkService,
    /// Measure a sandbox.
    ///
    /// Processor, memory, disk, as the sandbox's daemon sees them: 422 `unsupported` without pve-edge-guest in it.
    GetMetrics,
    /// Read a file, or pack a folder into an archive.
    ///
    /// `HEAD` tells size and ETag. One range at a time; a Range of another form is ignored. With `pack`, a folder's content,
    /// or a file, comes as a tar archive.
    GetFile,
    /// Write a file, or unpack an archive into a folder.
    ///
    /// The content is put in place when all of it has come, and not before: of a request that breaks off nothing is left.
    /// A symbolic link at the path is replaced, not followed. With `If-None-Match: *` a file that is there already is not
    /// replaced. On AWS Lambda a body has at most 4 MiB: 413.
    PutFile,
    /// Remove a file or a folder.
    ///
    /// A symbolic link is removed, and not what it leads to.
    DeleteFile,
    /// List a folder.
    ///
    /// `depth=0` tells of the file or folder itself.
    ListFiles,
    /// Make a folder.
    ///
    /// A folder that is there already is left as it is.
    MakeFolder,
    /// Rename a file or a folder.
    ///
    /// Within one file system. What is at the new path already is replaced with `overwrite` alone: 409 `file-exists`.
    MoveFile,
    /// Watch a folder.
    ///
    /// Server-sent events, until the folder is gone or the client leaves. What happens between two requests is not told:
    /// list the folder again.
    WatchFiles,
    /// Start a sandbox.
    ///
    /// Its expiry becomes the later of its span (`ttlSeconds` sets another) and what was left when it was stopped,
    /// from now, at most the deployment's maximum. A sandbox that runs keeps its expiry where no `ttlSeconds` is given.
    StartSandbox,
    /// Stop a sandbox.
    ///
    /// The sandbox stays stopped until it is started. Processes end. Morph has no stopped state: 422 `unsupported`.
    StopSandbox,
    /// Reboot a sandbox.
    ///
    /// A stopped sandbox is not started: 409 `not-running`.
    RebootSandbox,
    /// Pause a sandbox.
    ///
    /// A stopped or paused sandbox is kept until the later of its expiry and now + `EDGE_STOPPED_MAX_SECONDS`
    /// (`keptUntil`). `keeps` in the answer says whether the memory or only the files were kept.
    PauseSandbox,
    /// Resume a sandbox.
    ///
    /// The same as start.
    ResumeSandbox,
    /// Make a template of a sandbox, or keep a snapshot on it.
    ///
    /// The sandbox runs on. The template outlives it; a snapshot with `keep` is deleted with it. `promote` is for
    /// admins.
    TakeSnapshot,
    /// List the snapshots that a sandbox keeps.
    ///
    /// Snapshots that are being taken or deleted are among them.
    ListKeptSnapshots,
    /// Delete a snapshot that a sandbox keeps.
    ///
    /// The sandbox runs on, and its other snapshots stay.
    DeleteKeptSnapshot,
    /// Roll a sandbox back to a snapshot that it keeps.
    ///
    /// Files and sizes go back; name, metadata, expiry and environment stay. Processes are killed, and it starts
    /// again unless it was stopped; of a VM's snapshot with memory it runs on where it was then, in any case. After
    /// 202, or no answer, ask again: the same request joins the one that is under way. 409 `snapshot-not-newest`
    /// where the storage goes back to the newest only (ZFS).
    RollbackSandbox,
    /// List snapshots and presets.
    ///
    /// One call to PVE.
    ListSnapshots,
    /// Read a snapshot.
    ///
    /// A snapshot that is still being made is carried on. Presets are only in the list (403).
    GetSnapshot,
    /// Change a snapshot's name and metadata.
    ///
    /// A JSON merge patch (RFC 7396).
    PatchSnapshot,
    /// Delete a snapshot.
    ///
    /// 409 `snapshot-in-use` while sandboxes are linked to it.
    DeleteSnapshot,
    /// Make a template from nothing, as the next version of a preset.
    ///
    /// For admins. While its status is `downloading` nothing is claimed: send the same request again. From then on it
    /// has an id; GET, the same `Idempotency-Key`, or the sweep carries it on. The version is found when the template
    /// is made, not before. 422 `unsupported`: an image, and PVE is older than 9.1.
    BuildTemplate,
    /// Read a template that was made from nothing.
    ///
    /// For admins. A template that is still being made is carried on, once root has done its part.
    GetTemplate,
    /// Confirm that the exec daemon is in a template.
    ///
    /// For admins, once root has put it there.
    ConfirmTemplate,
    /// Delete a template, made or half made.
    ///
    /// For admins. 409 `snapshot-in-use` while sandboxes are linked to it. The archive stays.
    DeleteTemplate,
    /// Make the tunnel by which guests are reached from the internet, or plan it.
    ///
    /// For admins. Looks at what is there at Cloudflare and does the missing thing: tunnel, rules, record, and with `vpc` the VPC
    /// service; it may be asked again after any failure. What is not ours and in the way is 409 `tunnel-conflict` with the
    /// plan; `force` overwrites what that plan showed. The answer has the token of the tunnel, and the command for the host
    /// of PVE. At most 8 calls to Cloudflare, 10 with `vpc`.
    MakeTunnel,
    /// Compare the tunnel with what is wanted.
    ///
    /// For admins. At most 8 calls to Cloudflare. The token is not told.
    GetTunnel,
    /// Delete the tunnel, its record and its VPC service.
    ///
    /// For admins. What is not proved to be ours stays. 409 `tunnel-connected` while a cloudflared is connected, unless `force`
    /// is given.
    DeleteTunnel,
    /// Sweep: stop, pause or delete expired sandboxes, and finish interrupted work.
    ///
    /// For admins. A deployment's schedule does the same.
    Sweep,
}

impl Action {
    /// Names of the query's parameters; `metadata` stands for all of its entries.
    pub(super) fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::ListSandboxes => &["state", "limit", "cursor", "metadata"],
            Self::GetInstallScript => &["arch"],
            Self::GetFile => &["path", "user", "pack"],
            Self::PutFile => &["path", "user", "mode", "mkdirs", "unpack"],
            Self::DeleteFile => &["path", "user", "recursive"],
            Self::ListFiles => &["path", "user", "depth", "limit"],
            Self::WatchFiles => &["path", "user", "recursive"],
            Self::ListProcesses => &["tag"],
            Self::ReadOutput => &["after", "encoding"],
            Self::WriteStdin => &["at", "end"],
            Self::GetTunnel => &["vpc"],
            Self::DeleteTunnel => &["force", "vpc"],
            Self::OpenTerminal => &["token", "process", "after", "cols", "rows", "user"],
            _ => &[],
        }
    }

    /// Whether the request's body is sent on as it comes, and not read first.
    pub(super) fn takes_any_body(self) -> bool {
        self == Self::PutFile
    }

    /// Whether the operation waits for as long as `Prefer` says.
    pub(super) fn waits(self) -> bool {
        match self {
            Self::CreateSandbox
            | Self::GetSandbox
            | Self::PatchSandbox
            | Self::ExtendSandbox
            | Self::DeleteSandbox
            | Self::StartSandbox
            | Self::StopSandbox
            | Self::RebootSandbox
            | Self::PauseSandbox
            | Self::ResumeSandbox
            | Self::RollbackSandbox
            | Self::TakeSnapshot
            | Self::DeleteKeptSnapshot
            | Self::PutService
            | Self::DeleteService
            | Self::GetSnapshot
            | Self::DeleteSnapshot
            | Self::BuildTemplate
            | Self::GetTemplate
            | Self::ConfirmTemplate
            | Self::DeleteTemplate
            | Self::ReadOutput => true,
            Self::GetFrontPage
            | Self::GetPageScript
            | Self::GetPageStyle
            | Self::GetSetupScript
            | Self::GetProxyScript
            | Self::GetDescription
            | Self::GetInstallScript
            | Self::GetGuestProgram
            | Self::GetHealth
            | Self::GetSandboxHealth
            | Self::GetConfig
            | Self::ListSandboxes
            | Self::ExecSandbox
            | Self::CreateProcess
            | Self::ListProcesses
            | Self::GetProcess
            | Self::DeleteProcess
            | Self::WriteStdin
            | Self::SignalProcess
            | Self::ResizeProcess
            | Self::OpenTerminal
            | Self::LinkTerminal
            | Self::GetService
            | Self::LinkService
            | Self::GetMetrics
            | Self::GetFile
            | Self::PutFile
            | Self::DeleteFile
            | Self::ListFiles
            | Self::MakeFolder
            | Self::MoveFile
            | Self::WatchFiles
            | Self::ListKeptSnapshots
            | Self::ListSnapshots
            | Self::PatchSnapshot
            | Self::MakeTunnel
            | Self::GetTunnel
            | Self::DeleteTunnel
            | Self::Sweep => false,
        }
    }
}
