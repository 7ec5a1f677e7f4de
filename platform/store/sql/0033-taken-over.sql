-- When which process last continued what a killed process had begun; null since a process renewed its lease.
alter table api_processes add column taken_over_at timestamptz, add column taken_over_by uuid;
