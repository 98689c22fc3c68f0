//! What is tested: one function each, whose name says what holds.

mod access;
mod change;
mod console;
mod console_files;
mod create;
mod environment;
mod exec;
mod faults;
mod files;
mod gateway;
mod http;
mod install;
mod power;
mod processes;
mod read;
mod refused;
mod remove;
mod snapshots;
mod stream;
mod sweep;
mod templates;
mod terminal;
mod use_cases;

use std::{future::Future, pin::Pin};

use super::{target::Target, world::World};

/// One scenario.
pub(super) struct Scenario {
    /// `module::function`.
    pub(super) name: &'static str,
    pub(super) run: fn(World) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Scenario {
    /// A deployment that streams differs from another in that alone.
    pub(super) fn applies(&self, target: Target) -> bool {
        target != Target::LambdaStreaming || self.name.starts_with("stream::")
    }
}

macro_rules! scenarios {
    ($($module:ident: $($function:ident)*;)*) => {
        &[$($(Scenario {
            name: concat!(stringify!($module), "::", stringify!($function)),
            run: |world| Box::pin($module::$function(world)),
        },)*)*]
    };
}

/// All of them, those that take longest first.
pub(super) const ALL: &[Scenario] = scenarios! {
    templates: the_daemon_is_built_in a_copy_of_vms_becomes_a_preset what_is_built_is_in_its_sandboxes
        a_copy_becomes_a_preset what_is_one_machines_own_is_in_no_sandbox what_cannot_be_built_says_why an_archive_becomes_a_preset;
    console_files: what_is_written_is_read a_part_is_read_and_an_update_is_not_lost archives_go_in_and_out
        folders_are_made_listed_and_moved they_go_by_the_console_where_the_daemon_is_not_reached
        another_user_does_what_that_user_may what_is_too_large_is_refused it_is_measured;
    faults: an_unaccepted_token_is_told an_unreachable_pve_is_told;
    remove: what_has_expired_is_gone deletion_takes_it_away a_deletion_need_not_wait;
    snapshots: a_snapshot_makes_sandboxes_of_its_team a_rollback_brings_back_the_disk_alone;
    gateway: a_link_opens_what_a_sandbox_serves what_has_the_proxys_key_is_sent_on
        a_page_wakes_a_sandbox_that_was_stopped a_slow_client_gets_all_and_keeps_nobody_waiting;
    power: what_is_stopped_is_started_again a_pause_says_what_it_keeps a_virtual_machine_keeps_its_memory;
    use_cases: a_preset_from_the_list_makes_a_sandbox_of_its_sizes the_urls_of_services_lead_into_the_sandbox
        an_agent_works_in_a_repository;
    sweep: what_has_expired_is_condemned;
    environment: commands_have_it_and_pve_does_not what_cannot_be_one_is_refused;
    create: eight_at_once_from_one_template by_preset_it_is_the_newest_version by_snapshot_id_it_is_that_version
        by_template without_a_source_it_is_the_default sizes_are_applied who_does_not_wait_asks_until_it_runs
        a_repeated_key_makes_no_second a_repeated_key_at_the_same_time_makes_no_second
        templates_that_are_not_there;
    stream: events_come_while_the_command_runs a_client_that_leaves_ends_the_command what_fails_is_an_event
        who_cannot_stream_says_so;
    exec: output_and_exit_code directory_environment_and_arguments what_takes_too_long_is_ended
        output_is_kept_as_it_is a_line_of_three_megabytes more_than_an_answer_holds_is_cut
        what_cannot_be_run_is_refused;
    processes: a_client_that_was_cut_goes_on it_is_written_to_and_read the_same_key_is_the_same_process
        bytes_are_exact signals_reach_it_and_its_end_leaves_nothing;
    console: any_template_runs_commands its_processes_outlive_their_client many_share_its_console
        events_come_from_its_console;
    terminal: a_link_opens_a_shell what_was_started_goes_on_without_its_client;
    install: the_script_and_its_programs_are_handed_out;
    files: who_cannot_says_so what_is_written_is_read a_part_is_read_and_an_update_is_not_lost a_thousand_files_are_listed
        a_cut_upload_leaves_nothing changes_are_watched;
    read: metadata_selects pages_are_complete_and_do_not_overlap a_sandbox_is_shown_whole
        an_admin_sees_all_teams;
    change: a_patch_needs_the_right_version metadata_merges more_time_is_given;
    access: health_needs_no_key a_browser_gets_the_page_for_people nothing_else_goes_without_a_key presets_have_all_their_versions
        the_provider_is_healthy another_teams_sandbox_does_not_exist a_strangers_guest_does_not_exist;
    http: head_is_get_without_a_body preferences_are_taken_as_far_as_they_can_be
        pages_of_an_origin_that_is_set_may_use_it a_condition_holds_for_its_end a_coded_body_is_refused;
    refused: bad_bodies_name_the_field bad_headers_are_refused bad_queries_are_refused bad_ids_do_not_exist
        wrong_methods_and_paths a_large_body other_content_types;
};
