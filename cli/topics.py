"""Every command, once: the topic it belongs to, the module that holds it, and what a list says of it.

A new command is a line here. It must import nothing: the list of commands and the shell's completion start here.
"""

from __future__ import annotations

# topic -> name -> (the module that holds a function of that name, what the list of commands says)
TOPICS: dict[str, dict[str, tuple[str, str]]] = {
    "start": {
        "demo": ("cli.demo.demo", "Show all of Twinvec on the real MNIST, and leave it running."),
        "up": ("cli.commands.up", "Start broker, database and workers here."),
        "down": ("cli.commands.down", "Stop what `up` or `demo` started; the data stays."),
        "web": ("cli.commands.web", "Serve the page in the browser."),
        "doctor": ("cli.doctor.doctor", "Check the machine and the installation, and say what to do."),
    },
    "pictures": {
        "embed": ("cli.commands.embed", "Store and embed pictures, folders and files of arrays."),
        "nearest": ("cli.commands.nearest", "Find the nearest stored digits of a picture or a key."),
        "export": ("cli.commands.export", "Write stored vectors to a Parquet, .npz or .npy file."),
        "show": ("cli.commands.show", "Show the 28x28 digit that is made of a picture."),
        "list": ("cli.commands.listing", "List stored digits."),
        "get": ("cli.commands.stored", "Show stored digits by their keys."),
        "collections": ("cli.commands.stored", "List the collections."),
        "delete": ("cli.commands.stored", "Delete digits, their vectors and their kept pictures."),
    },
    "labels": {
        "suspects": ("cli.commands.suspects", "Find stored labels that disagree with their neighbours."),
        "judge": ("cli.commands.judge", "Say of pairs of stored digits whether they show the same."),
        "map": ("cli.commands.map", "Draw stored digits as points, coloured by label, into a PNG file."),
        "label": ("cli.commands.stored", "Give a stored digit another label."),
        "duplicates": ("cli.commands.duplicates", "Find pairs of stored digits that are nearly the same."),
        "judgements": ("cli.commands.judge", "List what was said of pairs."),
        "doubtful": ("cli.commands.doubtful", "List a job's stored pictures that look like no digit."),
    },
    "jobs": {
        "jobs": ("cli.commands.jobs", "List the latest jobs."),
        "job": ("cli.commands.jobs", "Show or follow one job."),
        "failures": ("cli.commands.jobs", "List the pictures of a job that were not embedded, and why."),
        "retry": ("cli.commands.jobs", "Send the failed pictures of a job, or of many, again."),
        "cancel": ("cli.commands.jobs", "Cancel what has not begun of a job, or of many."),
        "dead": ("cli.commands.dead", "List the batches that are not tried any more."),
        "requeue": ("cli.commands.dead", "Try dead batches again."),
    },
    "towers": {
        "train": ("cli.commands.train", "Train a tower and follow its epochs."),
        "retrain": ("cli.commands.retrain", "Train a tower, backfill, judge and promote it, as one job."),
        "towers": ("cli.commands.towers", "List the towers that were trained."),
        "report": ("cli.commands.report", "Write a page on a tower, or on two side by side."),
        "tower": ("cli.commands.towers", "Show a tower, or save its file."),
        "stop": ("cli.commands.jobs", "End a training early, with the best tower so far."),
        "schedule": ("cli.commands.retrain", "Show when towers are retrained by themselves."),
        "register": ("cli.commands.register", "Register a tower from its file."),
        "backfill": ("cli.commands.backfill", "Show how far stored digits are embedded under a new tower."),
        "judge-tower": ("cli.commands.promote", "Have the candidate judged anew."),
        "promote": ("cli.commands.promote", "Let a tower go live."),
        "rollback": ("cli.commands.promote", "Let the tower go live again that was live before."),
        "retire": ("cli.commands.promote", "Retire a tower that is not live."),
    },
    "operate": {
        "health": ("cli.commands.health", "Check that broker and database answer."),
        "top": ("cli.commands.top", "Watch lanes, workers, jobs and towers."),
        "pause": ("cli.commands.steering", "Hold back what waits on a lane, or of a job."),
        "resume": ("cli.commands.steering", "Let a lane or a job go on."),
        "drain": ("cli.commands.steering", "Let lanes finish what waits, and take nothing new."),
        "actions": ("cli.commands.steering", "List who asked for what."),
        "migrate": ("cli.commands.migrate", "Create or upgrade the database's tables."),
        "worker": ("cli.commands.worker", "Run one worker in the foreground."),
        "beat": ("cli.commands.beat", "Run the scheduler in the foreground."),
        "units": ("cli.commands.units", "Write service files for systemd, or a Procfile."),
        "help": ("cli.commands.help", "List the commands of a topic, or show one."),
    },
}
COMMANDS = {name: command for commands in TOPICS.values() for name, command in commands.items()}

# those that most people need: `twinvec --help` gives each a line, and the others by name
COMMON = {
    *("demo", "up", "down", "web", "doctor"),
    *("embed", "nearest", "export"),
    *("suspects", "judge"),
    *("jobs", "job", "failures"),
    *("train", "retrain", "report"),
    "health",
}

# who needs a topic, as the headings of `twinvec help --all` say it
AUDIENCES = {
    "start": "for everyone",
    "pictures": "for applications and users",
    "labels": "for applications and users",
    "jobs": "for applications, users and operators",
    "towers": "for operators",
    "operate": "for operators and service managers",
}
