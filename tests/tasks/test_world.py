import pytest

from medpipe.tasks.world import (
    World,
    batch_problem,
    first_of_node_list,
    place_in_array,
    tasks_per_node,
    world_of_environment,
)

SRUN = {
    "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "1234", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_TASKS": "7", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_TASKS_PER_NODE": "4,3",
    "SLURM_STEP_NODELIST": "localhost,other[1-3]",
}  # fmt: skip
TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234",
}  # fmt: skip


def test_no_launcher_is_one_process() -> None:
    assert world_of_environment({}) == World()
    # A batch script without srun, with room for many tasks.
    assert world_of_environment({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) == World()
    # srun of one task, an interactive shell for instance.
    assert world_of_environment({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) == World()


def test_srun_gives_the_place() -> None:
    world = world_of_environment(SRUN)
    assert (world.rank, world.size, world.local_rank, world.local_size, world.node, world.num_nodes) == (
        5,
        7,
        1,
        3,
        1,
        2,
    )
    assert (world.launcher, world.address) == ("srun", "localhost")
    assert 15_000 <= world.port < 25_000
    assert world.port == world_of_environment({**SRUN, "SLURM_PROCID": "0"}).port
    given = world_of_environment({**SRUN, "MASTER_ADDR": "10.1.1.1", "MASTER_PORT": "999"})
    assert (given.address, given.port) == ("10.1.1.1", 999)


def test_a_host_that_has_no_address_here_is_replaced_by_the_one_that_called() -> None:
    values = {**SRUN, "SLURM_STEP_NODELIST": "no-such-host.invalid", "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.9"}
    assert world_of_environment(values).address == "127.0.0.9"


def test_torchrun_goes_before_srun() -> None:
    world = world_of_environment({**SRUN, **TORCHRUN})
    assert world == World(3, 4, 1, 2, 1, 2, "torchrun", "10.0.0.1", 1234)


@pytest.mark.parametrize("broken", [{"RANK": "4"}, {"RANK": "one"}, {"LOCAL_RANK": "2"}])
def test_variables_that_contradict_each_other_are_refused(broken: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"torchrun"):
        world_of_environment({**TORCHRUN, **broken})


def test_lists_of_slurm() -> None:
    assert tasks_per_node("4(x2),3") == [4, 4, 3]
    assert first_of_node_list("gpu-[03-05,9],login") == "gpu-03"
    assert first_of_node_list("rack[1,3]n[2-4]") == "rack1n2"
    assert first_of_node_list("alone") == "alone"
    with pytest.raises(ValueError, match="expected for instance"):
        tasks_per_node("four")


def test_a_batch_is_shared_or_refused() -> None:
    assert batch_problem(8, 4) is None
    problem = batch_problem(6, 4)
    assert problem is not None
    assert "start 1, 2, 3, 6 of them, or set batch_size to 8" in problem


def test_jobs_of_an_array_begin_apart() -> None:
    array = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}
    assert [place_in_array(10, {**array, "SLURM_ARRAY_TASK_ID": str(n)}) for n in range(1, 5)] == [0, 2, 5, 7]
    assert place_in_array(10, {}) == place_in_array(0, {**array, "SLURM_ARRAY_TASK_ID": "3"}) == 0
