"""`python -m client.command` is `multilora`."""

from client.command import main

main()
