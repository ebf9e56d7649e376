"""`python -m client.command` is `multilora`."""

from client.command.app import main

main()
